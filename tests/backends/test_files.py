"""Blobs on a folder: the laws, and what a kill, a full disk and a power cut may leave."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from salus.backends.files import FileBlobs, open_files
from salus.kernel.content import digest
from salus.kernel.errors import InvalidInput, StorageFull, Unavailable
from salus.testing.conformance import BlobsConformance

STORM = """
import sys
from pathlib import Path
from salus.backends.files import FileBlobs
blobs = FileBlobs(Path(sys.argv[1]))
number = 0
while True:
    print(blobs.put(b"%d" % number * 50_000), flush=True)
    number += 1
"""


class TestFiles(BlobsConformance):
    def damage(self, blobs: FileBlobs, digest: str) -> None:
        path = blobs.path(digest)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")


def test_kill_9_leaves_no_half_blob(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STORM, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [line.strip() for line in islice(process.stdout, 40)]
        process.send_signal(signal.SIGKILL)
    blobs = FileBlobs(tmp_path)
    for name in acknowledged:
        blobs.get(name)
    for info in blobs.list():
        assert digest(blobs.get(info.digest)) == info.digest


def test_leftovers_are_swept_when_they_are_old(tmp_path: Path) -> None:
    FileBlobs(tmp_path)
    young, old = tmp_path / "tmp" / "young", tmp_path / "tmp" / "old"
    young.write_bytes(b"half")
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    blobs = FileBlobs(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert blobs.sweep(older_than_s=0) == 1
    assert list(blobs.list()) == []


def test_everything_is_synced_before_put_returns(blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    path = blobs.path(blobs.put(b"new"))
    assert "/tmp/" in synced[0]
    assert synced[1:] == [str(path.parent), str(path.parent.parent)]
    synced.clear()
    blobs.put(b"new")
    assert synced == [str(path.parent)]


@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EROFS, Unavailable)]
)
def test_a_full_disk_is_said_and_leaves_nothing(
    blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def fail(descriptor: int, content: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(error):
            blobs.put(b"x")
    assert list(blobs.list()) == []
    assert blobs.sweep(older_than_s=0) == 0
    assert blobs.get(blobs.put(b"x")) == b"x"


def test_a_failed_sync_ends_the_process(tmp_path: Path) -> None:
    script = """
import errno, os, sys
from pathlib import Path
from salus.backends.files import FileBlobs
blobs = FileBlobs(Path(sys.argv[1]))
def fail(descriptor):
    raise OSError(errno.EIO, "input/output error")
os.fsync = fail
blobs.put(b"x")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 70
    assert b"stable storage failed" in done.stderr


def test_putting_again_makes_young(blobs: FileBlobs) -> None:
    name = blobs.put(b"x")
    os.utime(blobs.path(name), (1_000_000, 1_000_000))
    blobs.put(b"x")
    info = blobs.info(name)
    assert info is not None
    assert info.modified_ms > 1_000_000_000


@pytest.mark.parametrize("address", ["file://relative", "/plain", "file:/one"])
def test_an_address_without_a_folder_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="file:///folder"):
        open_files(address)
