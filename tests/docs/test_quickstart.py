"""The quickstart is followed literally: every block of the page, in its order, against a real `salus up`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?[^\n]*\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_UP_S = 60.0
_BLOCK_S = 120.0
_CURL_HTTP_ERROR = 22


class Block(NamedTuple):
    """A code block: bash is run; Python is saved under the file name that it has."""

    language: str
    file: str
    code: str


class Reader:
    """Somebody who follows the page in an empty folder, with a home of their own and ports that are free."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder = folder
        self.ports = {"7070": free_port(), "7071": free_port()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SALUS_")}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SALUS_PORT": self.ports["7070"],
            "SALUS_SERVE_PORT": self.ports["7071"],
            "PIP_NO_INDEX": "1",  # what the page installs is here already, or this fails
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.up: subprocess.Popen[str] | None = None

    def follow(self, block: Block) -> str:
        """Does what the block says; returns what was printed."""
        code = re.sub(r"(?<=127\.0\.0\.1:)(7070|7071)", lambda found: self.ports[found[0]], block.code)
        if block.file:
            (self.folder / block.file).write_text(code, encoding="utf-8")
            return ""
        if code.strip() == "salus up":
            return self._start()
        done = self._bash(code)
        if done.returncode == _CURL_HTTP_ERROR:  # the data plane serves a new endpoint "a moment later"
            time.sleep(1)
            done = self._bash(code)
        assert done.returncode == 0, f"{code}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _bash(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_BLOCK_S,
            check=False,
        )

    def _start(self) -> str:
        log = self.folder / "up.log"
        with log.open("w") as out:
            self.up = subprocess.Popen(
                ["salus", "up"], env=self.environment, stdout=out, stderr=subprocess.STDOUT, text=True
            )
        threading.Thread(target=self.up.wait, daemon=True).start()  # as a shell does: an ended child is taken note of
        deadline = time.monotonic() + _UP_S
        while "Salus is up" not in log.read_text():
            assert self.up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        return log.read_text()

    def leave(self) -> None:
        """Stops what still runs."""
        if self.up is not None and self.up.poll() is None:
            self.up.terminate()
            self.up.wait(timeout=30)


def free_port() -> str:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def blocks() -> list[Block]:
    """The code of the page, in order."""
    return [Block(*found) for found in _FENCE.findall(PAGE.read_text(encoding="utf-8"))]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    for name in ("home", "folder"):
        (tmp_path / name).mkdir()
    reader = Reader(tmp_path / "home", tmp_path / "folder")
    yield reader
    reader.leave()


def test_every_block_is_a_command_or_a_named_file() -> None:
    for block in blocks():
        assert block.language == "bash" or (block.language == "python" and block.file), block.code


def test_following_the_page_works(reader: Reader) -> None:
    printed = {block.code.strip().splitlines()[0]: reader.follow(block) for block in blocks()}

    assert "tumours@1: 569 rows" in printed["python commit.py"]
    assert "tumour@1.0.0 is a candidate" in printed["python train.py"]
    assert "tumour@1.0.0 is approved" in next(text for line, text in printed.items() if "models approve" in line)
    answer = json.loads(next(text for line, text in printed.items() if line.startswith("curl")))
    (prediction,) = answer["predictions"]
    assert prediction["version"] == "1.0.0"
    assert prediction["outputs"]["probability"] > 0.9
    assert "569 predictions, 569 labels" in printed["python ask.py"]
    assert "tumour" in printed["salus doctor tumour"]
    assert "is whole" in printed["salus doctor tumour"]
    assert reader.up is not None
    assert reader.up.wait(timeout=30) == 0
