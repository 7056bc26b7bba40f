"""The command line as a person meets it: real processes, exit codes, one readable line for an error."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from salus.cli.main import _COMMANDS
from salus.kernel.ids import new_id
from salus.testing.servers import RunningServer, running_server, settings_in


def salus(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`salus ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "salus", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160", **environment},
        check=False,
    )


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    done = salus(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_a_wrong_command_is_a_usage_error() -> None:
    done = salus("nope")
    assert done.returncode == 2
    assert "No such command 'nope'" in done.stderr


def test_without_a_server_the_error_says_what_to_do() -> None:
    done = salus("runs", "list", SALUS_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("salus: no answer from http://127.0.0.1:9")
    assert "Start it with 'salus up'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_named() -> None:
    done = salus("status", SALUS_PORT="seventy")
    assert done.returncode == 2
    assert "SALUS_PORT" in done.stderr


def test_runs_are_listed_and_shown(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as server:
        run = _start(server)
        listed = salus("runs", "list", "--json", SALUS_URL=server.url)
        assert json.loads(listed.stdout)[0]["run"]["id"] == run
        assert run in salus("runs", "show", run, SALUS_URL=server.url).stdout
        missing = salus("runs", "show", "nope", SALUS_URL=server.url)
        assert (missing.returncode, missing.stdout) == (1, "")
        entries = json.loads(salus("audit", "list", "--json", SALUS_URL=server.url).stdout)
        assert entries[0]["kind"] == "RunStarted"


def test_audit_finds_what_was_changed(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as server:
        _start(server)
    home = {"SALUS_HOME": str(tmp_path)}
    whole = salus("audit", "verify", **home)
    assert whole.returncode == 0, whole.stderr
    root = whole.stdout.split("root ")[1].strip()
    assert salus("audit", "verify", "--expect-root", root, "--expect-entries", "1", **home).returncode == 0
    assert salus("audit", "verify", "--expect-root", "0" * 64, **home).returncode == 1
    _tamper(tmp_path / "salus.db")
    broken = salus("audit", "verify", **home)
    assert broken.returncode == 1
    assert "entry 1 was changed after it was written" in broken.stderr


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    home = {"SALUS_HOME": str(tmp_path)}
    made = salus("token", "create", "ci", "--role", "editor", **home)
    token = made.stdout.split("Token ")[1].split()[0]
    assert "salus_" in made.stdout
    assert token in salus("token", "list", **home).stdout
    assert salus("token", "revoke", token, **home).returncode == 0
    assert salus("token", "revoke", new_id("tok"), **home).returncode == 1
    assert salus("token", "create", "ci", "--role", "king", **home).returncode == 2


def _start(server: RunningServer) -> str:
    answer: dict[str, str] = server.session.call("POST", "/api/v1/runs", body={}, expect=dict)
    return answer["id"]


def _tamper(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE ledger SET actor = 'mallory' WHERE seq = 1")
