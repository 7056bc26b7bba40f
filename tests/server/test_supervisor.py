"""Everything on one machine: what is in the way is said before anything starts, what dies is replaced, nothing is
left behind however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from salus.kernel.errors import Conflict, Unavailable
from salus.kernel.settings import Settings, load_settings
from salus.sdk.session import Session
from salus.server.supervisor import STATE_FILE, Supervisor, UpState, end_orphans, read_state, stop_running

_SALUS = [sys.executable, "-m", "salus"]
_PATIENCE_S = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    port, serve_port = free_ports(2)
    return load_settings({
        "SALUS_HOME": str(tmp_path / "home"),
        "SALUS_PORT": str(port),
        "SALUS_SERVE_PORT": str(serve_port),
        "SALUS_LOG_LEVEL": "warning",
        "SALUS_PROJECT": str(tmp_path),
    })  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left(settings: Settings) -> Iterator[None]:
    """No test leaves a process of its home folder behind."""
    yield
    left = processes_of(settings)
    for process in left:
        process.kill()
    assert left == []


def processes_of(settings: Settings) -> list[psutil.Process]:
    """Those that were started with the test's home folder in their environment, but for this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("SALUS_HOME") == settings.home:
                found.append(process)
    return found


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` gives as soon as it gives something."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {_PATIENCE_S:.0f} s")


def environment(settings: Settings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SALUS_")}
    given = {"home": settings.home, "port": settings.port, "serve_port": settings.serve_port}
    return {**kept, **{f"SALUS_{name.upper()}": str(value) for name, value in given.items()}}


def salus(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, run to its end."""
    command = [*_SALUS, *arguments]
    env = environment(settings)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)


class Up:
    """A running `salus up`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = subprocess.Popen(
            [*_SALUS, "up"], env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ready(self) -> UpState:
        """Returns when it has said that it is up."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Salus is up" in line:
                state = read_state(self.settings)
                assert state is not None
                return state
        raise AssertionError("it ended before it was up")

    def end(self, number: int) -> tuple[int, float]:
        """Its exit code and the seconds it took to end after the signal."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate(timeout=_PATIENCE_S)
        return self.process.returncode, time.monotonic() - began_s


def answers(settings: Settings) -> bool:
    session = Session(settings, attempts=1)
    try:
        session.send("GET", "/readyz")
        session.send("GET", f"{settings.dataplane_url}/livez")
    except Unavailable:
        return False
    finally:
        session.close()
    return True


class TestSupervisor:
    def test_it_starts_once_replaces_who_dies_and_ends_all(self, settings: Settings) -> None:
        supervisor = Supervisor(settings)
        supervisor.start()
        try:
            assert answers(settings)
            state = read_state(settings)
            assert state is not None
            assert (state.supervisor, state.url) == (os.getpid(), settings.server_url)
            assert [child.name for child in state.children] == ["server", "serve", "worker-1"]

            with pytest.raises(Conflict, match=f"runs already at {settings.server_url}"):
                Supervisor(settings).start()
            assert answers(settings), "the one that was refused ended the other's processes"

            before = {child.name: child.pid for child in state.children}
            for name in before:
                os.kill(before[name], signal.SIGKILL)
            until(lambda: all(supervisor.pid(name) != before[name] for name in before), "each is started again")
            after = {name: supervisor.pid(name) for name in before}
            noted = read_state(settings)
            assert noted is not None
            assert {child.name: child.pid for child in noted.children} == after
            until(lambda: answers(settings), "the new ones answer")
        finally:
            supervisor.stop()
        assert processes_of(settings) == []
        assert read_state(settings) is None
        assert not (settings.home_path / STATE_FILE).exists()
        assert stop_running(settings) is None

    @pytest.mark.parametrize("setting", ["SALUS_PORT", "SALUS_SERVE_PORT"])
    def test_a_taken_port_is_named_before_anything_starts(self, settings: Settings, setting: str) -> None:
        port = settings.port if setting == "SALUS_PORT" else settings.serve_port
        said = rf"cannot listen on 127.0.0.1:{port}.*process {os.getpid()}"
        with socket.create_server(("127.0.0.1", port)), pytest.raises(Unavailable, match=said) as caught:
            Supervisor(settings).start()
        assert caught.value.path == setting
        assert f"{setting}=" in (caught.value.remedy or "")
        assert not list((settings.home_path / "logs").iterdir()), "a process was started"
        assert read_state(settings) is None

    def test_a_process_that_does_not_come_up_is_said_with_its_log_and_leaves_nothing(self, settings: Settings) -> None:
        wrong = msgspec.structs.replace(settings, database="sqlite://x")
        with pytest.raises(Unavailable, match=r"(?s)server ended with 2: .*sqlite:///path"):
            Supervisor(wrong).start()
        assert read_state(settings) is None
        assert not (settings.home_path / STATE_FILE).exists()

    def test_orphans_are_those_that_were_noted_not_whoever_has_their_number_now(self, settings: Settings) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
            state = {"supervisor": stranger.pid, "created_s": 1.0, "url": "", "serve_url": ""}
            state["children"] = [{"name": "server", "pid": stranger.pid, "created_s": 1.0}]
            settings.home_path.mkdir()
            (settings.home_path / STATE_FILE).write_bytes(msgspec.json.encode(state))
            assert end_orphans(settings) == 0
            assert stranger.poll() is None
            (settings.home_path / STATE_FILE).write_bytes(b"{torn")
            assert (read_state(settings), end_orphans(settings)) == (None, 0)
            stranger.communicate(b"\n")


class TestUp:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_it_in_order_within_seconds(self, settings: Settings, number: int) -> None:
        up = Up(settings)
        state = up.ready()
        assert len(processes_of(settings)) >= len(state.children) + 1
        code, took_s = up.end(number)
        assert code == 0
        assert took_s < 8.0
        assert processes_of(settings) == []

    def test_a_signal_while_it_starts_leaves_nothing(self, settings: Settings) -> None:
        up = Up(settings)
        until(lambda: read_state(settings), "the first child is noted")
        code, took_s = up.end(signal.SIGTERM)
        assert code == 0
        assert took_s < 8.0
        assert processes_of(settings) == []

    def test_down_stops_it_and_says_when_there_is_nothing(self, settings: Settings) -> None:
        up = Up(settings)
        up.ready()
        second = salus(settings, "up")
        assert second.returncode == 1
        assert second.stderr.startswith(f"salus: Salus runs already at {settings.server_url}")
        down = salus(settings, "down")
        assert (down.returncode, down.stdout) == (0, "Stopped 3 processes.\n")
        up.process.communicate(timeout=5)
        assert up.process.returncode == 0
        assert processes_of(settings) == []
        again = salus(settings, "down")
        assert again.returncode == 1
        assert again.stderr.startswith("salus: nothing runs under")

    def test_after_a_kill_of_the_supervisor_up_begins_anew(self, settings: Settings) -> None:
        up = Up(settings)
        state = up.ready()
        up.end(signal.SIGKILL)
        assert read_state(settings) is None
        orphans = [psutil.Process(child.pid) for child in state.children]
        assert all(orphan.is_running() for orphan in orphans)

        second = Up(settings)
        fresh = second.ready()
        assert not any(orphan.is_running() for orphan in orphans)
        assert not {child.pid for child in fresh.children} & {child.pid for child in state.children}
        assert answers(settings)
        second.end(signal.SIGKILL)
        down = salus(settings, "down")
        assert (down.returncode, down.stdout) == (0, "Ended 3 processes that a killed 'salus up' left behind.\n")
        assert processes_of(settings) == []

    def test_a_taken_port_is_one_readable_line(self, settings: Settings) -> None:
        with socket.create_server(("127.0.0.1", settings.serve_port)):
            refused = salus(settings, "up")
            alone = salus(settings, "serve")
        with socket.create_server(("127.0.0.1", settings.port)):
            server = salus(settings, "server")
        for command, port in ((refused, settings.serve_port), (alone, settings.serve_port), (server, settings.port)):
            assert command.returncode == 1
            (line,) = command.stderr.splitlines()
            assert line.startswith(f"salus: cannot listen on 127.0.0.1:{port}: Address already in use by process")
