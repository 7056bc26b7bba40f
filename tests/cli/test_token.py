"""Tokens from the command line, also before the server ever ran."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from salus.kernel.errors import Denied, Unauthenticated
from salus.pipelines.client import PipelinesClient
from salus.sdk.session import Session
from salus.testing.servers import running_server, settings_in


def token(home: Path, *arguments: str) -> list[str]:
    """What `salus token ARGUMENTS` prints, line by line."""
    done = subprocess.run(
        [sys.executable, "-m", "salus", "token", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", "SALUS_HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_token_made_before_the_first_start_leaves_a_whole_database(tmp_path: Path) -> None:
    assert token(tmp_path, "list")
    text = token(tmp_path, "create", "ann", "--role", "viewer")[-1]
    with running_server(settings_in(tmp_path, auth=True)) as server:
        ann = PipelinesClient(Session(msgspec.structs.replace(server.settings, token=text)))
        assert ann.list() == []
        with pytest.raises(Denied, match="ann has the role viewer"):
            ann.cancel("plr_1")
        made = next(line for line in token(tmp_path, "list") if " ann " in line)
        token(tmp_path, "revoke", made.split()[0])
        with pytest.raises(Unauthenticated):
            ann.list()
