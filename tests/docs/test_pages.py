"""Pages about the SDK, tracking and operations are held to the code: their blocks run, their lists are complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import salus
from salus.client import Client
from salus.sdk.session import Session
from salus.testing.servers import RunningServer, running_server, settings_in
from salus.tracking.client import TrackingClient

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def bash(code: str, folder: Path, home: Path, **environment: str) -> str:
    """What `code` prints to somebody whose home is `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SALUS_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**inherited, "PATH": path, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose home is `.salus` in the folder of the test."""
    with running_server(settings_in(tmp_path / ".salus")) as server:
        yield server


def part_classes() -> dict[str, type[Any]]:
    """The client's parts and what each is."""
    client = Client(Session(settings_in(Path())))
    names = [name for name, value in vars(Client).items() if isinstance(value, cached_property)]
    return {name: type(getattr(client, name)) for name in names}


@pytest.mark.parametrize("part", part_classes())
def test_the_sdk_page_lists_every_call_of_a_part(part: str) -> None:
    found = re.search(rf"^\| `client\.{part}` \| (.*) \|$", (DOCS / "sdk.md").read_text(), re.MULTILINE)
    assert found is not None
    calls = {name for name, value in vars(part_classes()[part]).items() if callable(value) and not name.startswith("_")}
    assert set(re.findall(r"`(\w+)`", found[1])) == calls


@pytest.mark.parametrize("name", salus.__all__)
def test_the_sdk_page_names_what_salus_exports(name: str) -> None:
    assert name == "Client" or re.search(rf"`@?salus\.{name}\b", (DOCS / "sdk.md").read_text())


def test_the_tracking_page_works(ours: RunningServer, tmp_path: Path) -> None:
    (python,) = blocks("tracking.md", "python")
    (tmp_path / "page.py").write_text(python, encoding="utf-8")
    assert "/runs/run_" in bash("python page.py", tmp_path, tmp_path, SALUS_URL=ours.url)
    (shell,) = blocks("tracking.md", "bash")
    bash(shell.replace("http://127.0.0.1:7070", ours.url), tmp_path, tmp_path)

    tracking = TrackingClient(ours.session)
    by_name = {row.run.name: tracking.get(row.run.id) for row in tracking.runs("flight-delay")}
    assert {name: found.run.state for name, found in by_name.items()} == {
        "baseline": "finished",
        "from the shell": "finished",
    }
    assert tracking.history(by_name["baseline"].run.id, "loss").total == 10
    shell_run = by_name["from the shell"]
    assert [point[2] for point in tracking.history(shell_run.run.id, "loss").points] == [0.5, "NaN"]
    assert tracking.artifact(shell_run.run.id, "notes.txt") == b"some notes\n"


def test_backup_restore_and_tokens_work_as_written(ours: RunningServer, tmp_path: Path) -> None:
    with TrackingClient(ours.session).start("kept") as run:
        run.log_artifact("a.txt", "bytes")
    back_up, check, make_token = blocks("operations.md", "bash")
    bash(back_up, tmp_path, tmp_path)
    verdict = bash(check, tmp_path, tmp_path)
    assert "entries is whole" in verdict
    with running_server(settings_in(tmp_path / "backup")) as restored:
        assert TrackingClient(restored.session).artifact(run.id, "a.txt") == b"bytes"
    assert "operator" in bash(make_token, tmp_path, tmp_path, COLUMNS="160")


def test_the_documentation_builds_with_every_page_in_its_navigation(tmp_path: Path) -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert set(re.findall(r"'([\w/-]+\.md)'", str(config["project"]["nav"]))) == {
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")
    }
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    bash("zensical build --strict", tmp_path, tmp_path)
    assert (tmp_path / "site" / "quickstart" / "index.html").exists()
