"""The outbox while the server is away: nothing a program logged is lost, doubled or out of order."""

from __future__ import annotations

from typing import Any

import pytest

from salus.kernel.errors import Overloaded, SalusError, StorageFull, Unavailable
from salus.kernel.settings import Settings
from salus.sdk import outbox
from salus.sdk.session import Session
from salus.testing.servers import RunningServer
from salus.tracking.client import TrackingClient


class FlakySession(Session):
    """Fails every call with `error` while that is set."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.error: SalusError | None = None

    def call(self, *arguments: Any, **more: Any) -> Any:
        if self.error is not None:
            raise self.error
        return super().call(*arguments, **more)


@pytest.fixture
def session(server: RunningServer) -> FlakySession:
    return FlakySession(server.settings)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_CLOSE_S", 0.3)
    monkeypatch.setattr(outbox, "_RETRY_S", 0.05)


@pytest.mark.parametrize("error", [Unavailable("away"), Overloaded("too much"), StorageFull("full")])
def test_what_was_logged_while_the_server_could_not_take_it_arrives_once(
    session: FlakySession, error: SalusError
) -> None:
    client = TrackingClient(session)
    with client.start("outage") as run:
        for step in range(30):
            session.error = error if 5 <= step < 20 else None
            run.log(loss=float(step))
            run.flush()
    points = client.history(run.id, "loss").points
    assert [(step, value) for step, _, value in points] == [(step, float(step)) for step in range(30)]
    assert client.get(run.id).run.state == "finished"
    assert not list(outbox.folder_of(session).glob("*"))


def test_a_run_that_ends_while_the_server_is_away_is_taken_along_by_the_next(session: FlakySession) -> None:
    client = TrackingClient(session)
    with client.start("outage") as run:
        run.log(loss=1.0)
        run.flush()
        session.error = Unavailable("away")
        run.log(loss=2.0)
    assert run.run.state == "finished"
    session.error = None
    assert client.get(run.id).run.state == "running"
    assert len(list(outbox.folder_of(session).glob("*.json"))) >= 2

    with client.start("outage") as other:
        other.log(loss=7.0)
    ended = client.get(run.id).run
    assert (ended.state, ended.ended_ms) == ("finished", run.run.ended_ms)
    assert [value for _, _, value in client.history(run.id, "loss").points] == [1.0, 2.0]
    assert [value for _, _, value in client.history(other.id, "loss").points] == [7.0]
    assert not list(outbox.folder_of(session).glob("*"))


def test_a_letter_of_another_run_that_is_refused_is_kept_aside_and_troubles_nobody(session: FlakySession) -> None:
    client = TrackingClient(session)
    run = client.start("outage")
    session.error = Unavailable("away")
    run.log(loss=2.0)
    run.finish()
    session.error = None
    client._session.call("POST", f"/api/v1/runs/{run.id}/finish", body={"state": "killed"})

    with client.start("outage") as other:
        other.log(loss=7.0)
    assert client.get(other.id).run.state == "finished"
    assert client.get(run.id).run.state == "killed"
    left = sorted(file.suffix for file in outbox.folder_of(session).glob("*"))
    assert left == [".refused"] * len(left)
    assert len(left) >= 2


def test_letters_are_kept_apart_by_server_and_workspace(session: FlakySession) -> None:
    one = outbox.folder_of(session)
    other = outbox.folder_of(Session(Settings(url=session.url, home=session.settings.home, workspace="other")))
    assert one.parent == other.parent
    assert one != other
