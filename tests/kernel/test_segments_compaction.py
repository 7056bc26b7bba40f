"""Upkeep of segment tables: folding keeps every row and its order, collecting keeps whatever somebody may
still read."""

from __future__ import annotations

import os
import random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from salus.backends.files import FileBlobs
from salus.kernel.clock import FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Corrupt, NotFound
from salus.kernel.segments import Segments, SegmentSettings
from salus.kernel.segments_compaction import Collected, collect_garbage, compact
from salus.kernel.segments_snapshot import Snapshot

TABLE = "predictions:default/flight-delay"
GRACE_S = 100.0


@pytest.fixture
def segments(blobs: FileBlobs, clock: FrozenClock) -> Segments:
    return Segments(blobs, settings=SegmentSettings(fold_files=4, grace_s=GRACE_S), clock=clock)


def fill(database: SqlDatabase, segments: Segments, values: list[int], sort_by: str | None = None) -> None:
    for value in values:
        frame = pl.DataFrame({"x": [value, value + 1], "y": [f"row {value}", None]})
        database.write(lambda tx, frame=frame: segments.append(tx, TABLE, frame, sort_by=sort_by))


def take(database: SqlDatabase, segments: Segments, version: int | None = None) -> Snapshot:
    return database.read(lambda reader: segments.snapshot(reader, TABLE, version=version))


def test_folding_keeps_rows_order_and_versions(database: SqlDatabase, segments: Segments) -> None:
    fill(database, segments, [10, 30, 20, 50, 40])
    before = take(database, segments)
    commit = compact(database, segments, TABLE)
    assert commit is not None
    assert commit.kind == "compact"
    after = take(database, segments)
    assert [file.format for file in after.files] == ["parquet"]
    assert_frame_equal(after.read(), before.read())
    assert take(database, segments, version=2).rows == 4
    assert database.read(lambda reader: segments.state(reader, TABLE)).rows == 10
    assert compact(database, segments, TABLE) is None


def test_rows_that_join_meanwhile_stay_behind(database: SqlDatabase, segments: Segments) -> None:
    fill(database, segments, [1, 2, 3, 4])
    original = segments.blobs.put_stream

    def put_while_others_write(chunks: object) -> object:
        fill(database, segments, [5])
        return original(chunks)

    segments.blobs.put_stream = put_while_others_write
    compact(database, segments, TABLE)
    assert take(database, segments).read()["x"].to_list() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_the_slower_of_two_compactors_changes_nothing(database: SqlDatabase, segments: Segments) -> None:
    fill(database, segments, [1, 2, 3, 4])
    original = segments.blobs.put_stream
    faster = Segments(
        FileBlobs(segments.blobs.path("blake3:" + "0" * 64).parent.parent),
        settings=segments.settings,
        clock=segments.clock,
    )

    def put_while_another_compacts(chunks: object) -> object:
        assert compact(database, faster, TABLE) is not None
        return original(chunks)

    segments.blobs.put_stream = put_while_another_compacts
    assert compact(database, segments, TABLE) is None
    assert take(database, segments).rows == 8
    assert len(take(database, segments).files) == 1


def test_a_schema_change_meanwhile_is_kept(database: SqlDatabase, segments: Segments) -> None:
    fill(database, segments, [1, 2, 3, 4])
    original = segments.blobs.put_stream

    def put_while_renamed(chunks: object) -> object:
        database.write(lambda tx: segments.evolve(tx, TABLE, rename={"x": "y", "y": "x"}, widen={"y": "float"}))
        return original(chunks)

    segments.blobs.put_stream = put_while_renamed
    assert compact(database, segments, TABLE) is not None
    frame = take(database, segments).read()
    assert frame["y"].to_list() == [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0]
    assert frame["x"][0] == "row 1"


def test_a_sorted_table_is_folded_sorted(database: SqlDatabase, segments: Segments) -> None:
    fill(database, segments, [40, 10, 30, 20], sort_by="x")
    assert take(database, segments).sorted_by is None
    compact(database, segments, TABLE)
    snapshot = take(database, segments)
    assert snapshot.sorted_by == "x"
    assert snapshot.read()["x"].to_list() == [10, 11, 20, 21, 30, 31, 40, 41]


def test_columns_without_values_and_dropped_ones(database: SqlDatabase, segments: Segments) -> None:
    fill(database, segments, [1, 2, 3])
    database.write(lambda tx: segments.evolve(tx, TABLE, drop=["y"], add={"n": "null", "z": "time"}))
    fill(database, segments, [4])
    before = take(database, segments).read()
    assert compact(database, segments, TABLE) is not None
    assert_frame_equal(take(database, segments).read(), before)


def test_large_files_and_short_runs_are_left_alone(database: SqlDatabase, blobs: FileBlobs) -> None:
    segments = Segments(blobs, settings=SegmentSettings(fold_files=3, target_bytes=20_000))
    fill(database, segments, [1, 2])
    noise = random.Random(5)
    large = segments.stage(pl.DataFrame({"x": [noise.getrandbits(62) for _ in range(4_000)]}))
    database.write(lambda tx: segments.append_staged(tx, TABLE, [large]))
    fill(database, segments, [3, 4])
    assert compact(database, segments, TABLE) is None
    fill(database, segments, [5])
    assert compact(database, segments, TABLE) is not None
    assert [file.rows for file in take(database, segments).files] == [2, 2, 4_000, 6]


def test_a_fold_stays_under_the_target(database: SqlDatabase, blobs: FileBlobs) -> None:
    segments = Segments(blobs, settings=SegmentSettings(fold_files=2, target_bytes=5_000))
    noise = random.Random(5)
    for _ in range(40):
        frame = pl.DataFrame({"x": [noise.getrandbits(62) for _ in range(50)]})
        database.write(lambda tx, frame=frame: segments.append(tx, TABLE, frame))
    expected = take(database, segments).read()
    while compact(database, segments, TABLE) is not None:
        continue
    snapshot = take(database, segments)
    assert 1 < len(snapshot.files) < 40
    assert all(file.size_bytes <= 5_000 for file in snapshot.files)
    assert_frame_equal(snapshot.read(), expected)


def test_a_large_file_waits_until_as_much_has_come_after_it(database: SqlDatabase, blobs: FileBlobs) -> None:
    segments = Segments(blobs, settings=SegmentSettings(fold_files=2))
    noise = random.Random(5)
    large = segments.stage(pl.DataFrame({"x": [noise.getrandbits(62) for _ in range(4_000)]}))
    database.write(lambda tx: segments.append_staged(tx, TABLE, [large]))
    fill(database, segments, [1, 2])
    compact(database, segments, TABLE)
    assert [file.rows for file in take(database, segments).files] == [4_000, 4]


def test_a_corrupt_file_stops_the_fold(database: SqlDatabase, blobs: FileBlobs) -> None:
    segments = Segments(blobs, settings=SegmentSettings(fold_files=2, inline_bytes=0))
    staged = [segments.stage(pl.DataFrame({"x": [value]})) for value in range(3)]
    database.write(lambda tx: segments.append_staged(tx, TABLE, staged))
    blobs.path(staged[1].digest).write_bytes(b"PAR1 something else PAR1")
    with pytest.raises(Corrupt):
        compact(database, segments, TABLE)
    assert len(take(database, segments).files) == 3


class TestGarbage:
    def test_removed_files_go_after_the_grace_period(
        self, database: SqlDatabase, segments: Segments, clock: FrozenClock
    ) -> None:
        fill(database, segments, [1, 2, 3, 4])
        compact(database, segments, TABLE)
        assert collect_garbage(database, segments) == Collected(files=0, blobs=0)
        assert take(database, segments, version=4).rows == 8
        clock.advance(seconds=GRACE_S)
        assert collect_garbage(database, segments) == Collected(files=4, blobs=0)
        assert take(database, segments).rows == 8
        with pytest.raises(NotFound, match=r"version 4 of the table .* was collected"):
            take(database, segments, version=4)

    def test_a_lease_keeps_its_version_only(
        self, database: SqlDatabase, segments: Segments, clock: FrozenClock
    ) -> None:
        fill(database, segments, [1, 2, 3, 4])
        lease = database.write(lambda tx: segments.hold(tx, TABLE, 2, owner="run:1", for_s=GRACE_S * 3))
        compact(database, segments, TABLE)
        clock.advance(seconds=GRACE_S)
        assert collect_garbage(database, segments).files == 2
        assert take(database, segments, version=2).read()["x"].to_list() == [1, 2, 2, 3]
        for lost in (1, 3, 4):
            with pytest.raises(NotFound):
                take(database, segments, version=lost)
        database.write(lambda tx: segments.release(tx, lease.id))
        assert collect_garbage(database, segments).files == 2

    def test_a_lease_ends_by_itself(self, database: SqlDatabase, segments: Segments, clock: FrozenClock) -> None:
        fill(database, segments, [1, 2, 3, 4])
        database.write(lambda tx: segments.hold(tx, TABLE, 4, owner="run:1", for_s=GRACE_S * 2))
        forever = database.write(lambda tx: segments.hold(tx, TABLE, 1, owner="dataset_version:flights@1"))
        compact(database, segments, TABLE)
        clock.advance(seconds=GRACE_S * 2)
        assert forever.expires_ms is None
        assert collect_garbage(database, segments).files == 3
        assert take(database, segments, version=1).rows == 2

    def test_blobs_that_segments_wrote_go_too(
        self, database: SqlDatabase, blobs: FileBlobs, segments: Segments
    ) -> None:
        eager = Segments(blobs, settings=SegmentSettings(inline_bytes=0, grace_s=0.0), clock=segments.clock)
        old = eager.stage(pl.DataFrame({"x": [1]}))
        theirs = eager.adopt(old.digest)
        other = eager.stage(pl.DataFrame({"x": [2]}))
        database.write(lambda tx: eager.append_staged(tx, TABLE, [old, other]))
        database.write(lambda tx: eager.append_staged(tx, "another", [theirs]))
        new = eager.stage(pl.DataFrame({"x": [3]}))
        database.write(lambda tx: eager.append_staged(tx, TABLE, [new], replace=True))
        make_old(blobs)
        assert collect_garbage(database, eager) == Collected(files=2, blobs=1)
        assert blobs.info(other.digest) is None
        assert blobs.info(old.digest) is not None
        assert blobs.info(new.digest) is not None

    def test_what_others_refer_to_stays(self, database: SqlDatabase, blobs: FileBlobs, segments: Segments) -> None:
        eager = Segments(blobs, settings=SegmentSettings(inline_bytes=0, grace_s=0.0), clock=segments.clock)
        old = eager.stage(pl.DataFrame({"x": [1]}))
        new = eager.stage(pl.DataFrame({"x": [2]}))
        database.write(lambda tx: eager.append_staged(tx, TABLE, [old]))
        database.write(lambda tx: eager.append_staged(tx, TABLE, [new], replace=True))
        make_old(blobs)
        found = collect_garbage(database, eager, keep=lambda reader, digest: digest == old.digest)
        assert found == Collected(files=1, blobs=0)
        assert blobs.info(old.digest) is not None


def make_old(blobs: FileBlobs) -> None:
    """Sets all blobs' times before the frozen clock's."""
    for info in list(blobs.list()):
        os.utime(blobs.path(info.digest), (1_600_000_000, 1_600_000_000))
