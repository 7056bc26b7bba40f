"""Who may ask what: hosts, origins, tokens, roles, and every single route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import urllib3

from salus.kernel import tokens
from salus.kernel.errors import Denied, InvalidInput, Unauthenticated
from salus.kernel.identity import Actor, Role
from salus.sdk.session import Session, path
from salus.server.app import make_app
from salus.server.control import check_exposure
from salus.server.status import Status
from salus.testing.servers import RunningServer, running_server, settings_in

ADMIN = Actor(principal="ann", role="admin", workspace="default")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RunningServer]:
    """A control plane that asks for tokens."""
    with running_server(settings_in(tmp_path, auth=True)) as running:
        yield running


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[RunningServer]:
    """A control plane on loopback, as `salus up` starts it."""
    with running_server(settings_in(tmp_path)) as running:
        yield running


def session_of(server: RunningServer, role: Role, workspace: str = "default") -> Session:
    _, text = server.context.database.write(lambda tx: tokens.create_token(tx, ADMIN, f"the {role}", role, workspace))
    return Session(msgspec.structs.replace(server.settings, token=text, workspace=workspace))


def routes_of(server: RunningServer) -> list[tuple[str, str, str]]:
    """Every route as (method, address, permission), path parameters filled in."""
    found = []
    for route in make_app(server.context).routes:
        for handler in getattr(route, "route_handlers", []):
            if "permission" not in handler.opt:
                continue
            address = "/".join("1" if part.startswith("{") else part for part in route.path_format.split("/"))
            found += [(method, address, handler.opt["permission"]) for method in handler.http_methods]
    return [route for route in found if route[0] not in {"HEAD", "OPTIONS"}]


def test_every_route_refuses_nobody_and_those_who_may_less(guarded: RunningServer) -> None:
    routes = routes_of(guarded)
    assert len(routes) > 20
    viewer = session_of(guarded, "viewer")
    for method, address, permission in routes:
        if permission == "public":
            continue
        answer = urllib3.request(method, guarded.url + address)
        assert answer.status == 401, (method, address)
        if permission == "read":
            continue
        headers = {"Authorization": f"Bearer {viewer.settings.token}"}
        answer = urllib3.request(method, guarded.url + address, headers=headers)
        assert answer.status == 403, (method, address, answer.data)


def test_a_token_opens_its_own_workspace_only(guarded: RunningServer) -> None:
    assert session_of(guarded, "viewer").call("GET", path("status"), expect=Status).role == "viewer"
    stranger = session_of(guarded, "admin", workspace="other")
    answer = urllib3.request(
        "GET",
        guarded.url + path("status"),
        headers={"Authorization": f"Bearer {stranger.settings.token}", "X-Salus-Workspace": "default"},
    )
    assert answer.status == 403


def test_a_revoked_token_opens_nothing(guarded: RunningServer) -> None:
    session = session_of(guarded, "admin")
    session.call("GET", path("status"))
    token = session.settings.token.split("_")[1]
    guarded.context.database.write(lambda tx: tokens.revoke_token(tx, ADMIN, token))
    with pytest.raises(Unauthenticated):
        session.call("GET", path("status"))


@pytest.mark.parametrize("text", ["x", "salus_a_b", "salus_" + "0" * 26 + "_secret00000000", "salus__"])
def test_a_made_up_token_opens_nothing(guarded: RunningServer, text: str) -> None:
    with pytest.raises(Unauthenticated):
        Session(msgspec.structs.replace(guarded.settings, token=text)).call("GET", path("status"))


def test_a_viewer_changes_nothing(guarded: RunningServer) -> None:
    with pytest.raises(Denied, match="has the role viewer, this needs editor"):
        session_of(guarded, "viewer").call("POST", path("runs"), body={})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7070", "", "127.0.0.1.evil.example"])
def test_a_foreign_host_is_refused(plain: RunningServer, host: str) -> None:
    answer = urllib3.request("GET", plain.url + "/api/v1/status", headers={"Host": host})
    assert answer.status == 421 or (host == "" and answer.status == 400)


def test_a_page_of_another_origin_changes_nothing(plain: RunningServer) -> None:
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    answer = urllib3.request("POST", plain.url + "/api/v1/runs", body=b"{}", headers=headers)
    assert answer.status == 403
    own = {"Origin": plain.url, "Content-Type": "application/json"}
    assert urllib3.request("POST", plain.url + "/api/v1/runs", body=b"{}", headers=own).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_an_open_door_without_a_guard_does_not_start(host: str) -> None:
    with pytest.raises(InvalidInput, match="can be reached by others"):
        check_exposure(host, auth=False)
    check_exposure(host, auth=True)
