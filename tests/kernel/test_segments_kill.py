"""kill -9 while segments are appended to, folded and collected: no acknowledged append is lost or doubled."""

from __future__ import annotations

import itertools
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest

from salus.backends.files import FileBlobs
from salus.kernel.clock import Clock, SystemClock
from salus.kernel.database import SqlDatabase
from salus.kernel.segments import Segments, SegmentSettings
from salus.kernel.segments_compaction import collect_garbage, compact
from salus.kernel.sql import Reader

SCRIPT = Path(__file__).with_name("segment_storm.py")
STORM = runpy.run_path(str(SCRIPT))
TABLE: str = STORM["TABLE"]
SETTINGS: SegmentSettings = STORM["SETTINGS"]
WRITERS = 4


def storm(address: str, blobs: Path, first: int, at_least: int, then_s: float) -> list[int]:
    """Runs the storm until `at_least` appends are acknowledged and `then_s` more; kills it; gives all acknowledged."""
    command = [sys.executable, str(SCRIPT), address, f"file://{blobs}", str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [int(line) for line in itertools.islice(process.stdout, at_least)]
        time.sleep(then_s)
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    assert len(acknowledged) >= at_least
    return acknowledged


def check(database: SqlDatabase, segments: Segments, acknowledged: list[int], unsettled: int) -> pl.DataFrame:
    """Every acknowledged append is there whole and once; of others, at most `unsettled` and whole."""
    frame = database.read(lambda reader: segments.snapshot(reader, TABLE)).read()
    found = frame.sort("key", "row")
    keys = found["key"].unique().to_list()
    assert set(acknowledged) <= set(keys)
    assert len(keys) <= len(acknowledged) + unsettled
    expected = pl.concat([STORM["rows_of"](key) for key in sorted(keys)])
    assert found.equals(expected)
    assert database.read(lambda reader: segments.state(reader, TABLE)).rows == frame.height
    return frame


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_no_acknowledged_append_is_lost_or_doubled(
    database_address: str, open_database: Callable[[Clock], SqlDatabase], tmp_path: Path, kills: int
) -> None:
    blobs = tmp_path / "blobs"
    database = open_database(SystemClock())
    segments = Segments(FileBlobs(blobs), settings=SETTINGS)
    acknowledged: list[int] = []
    for turn in range(kills):
        acknowledged += storm(database_address, blobs, turn * 100_000, 60, then_s=0.13 * (turn % 4))
        check(database, segments, acknowledged, unsettled=WRITERS * (turn + 1))
    folds = [c for c in database.read(lambda r: segments.history(r, TABLE, limit=100_000)) if c.kind == "compact"]
    assert len(folds) >= kills, "the storm was killed before it folded anything"
    before = check(database, segments, acknowledged, unsettled=WRITERS * kills)

    while compact(database, segments, TABLE) is not None:
        pass
    at_once = Segments(FileBlobs(blobs), settings=msgspec.structs.replace(SETTINGS, grace_s=0.0))
    collected = collect_garbage(database, at_once)
    assert collected.blobs
    after = check(database, segments, acknowledged, unsettled=WRITERS * kills)
    assert after.height == before.height
    left = stored(blobs) - database.read(lambda reader: referenced(reader, at_once))
    assert len(left) <= (WRITERS + 1) * kills, "more is left than what was being uploaded when the kills came"


def referenced(reader: Reader, segments: Segments) -> set[str]:
    """The digests of the blobs that the newest version needs."""
    files = segments.snapshot(reader, TABLE).files
    return {file.digest.removeprefix("blake3:") for file in files if file.format == "parquet"}


def stored(blobs: Path) -> set[str]:
    """The digests that lie there, by the end of their paths."""
    return {path.name for path in blobs.rglob("*") if path.is_file()}
