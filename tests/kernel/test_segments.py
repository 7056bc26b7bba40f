"""Segment tables: atomic appends, versions, growing schemas, pruning, order, refusals."""

# ruff: noqa: DTZ001 - local times have no zone on purpose
from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from salus.backends.files import FileBlobs
from salus.backends.memory import MemoryBlobs
from salus.kernel.clock import FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Conflict, Corrupt, InvalidInput, NotFound, TooLarge
from salus.kernel.ports import Blobs
from salus.kernel.segments import Segments, SegmentSettings
from salus.kernel.segments_snapshot import Snapshot
from salus.testing.fixtures import row_counts

TABLE = "dataset:default/flights"


@pytest.fixture
def segments(blobs: FileBlobs, clock: FrozenClock) -> Segments:
    return Segments(blobs, clock=clock)


def append(database: SqlDatabase, segments: Segments, frame: pl.DataFrame, **options: str) -> int:
    return database.write(lambda tx: segments.append(tx, TABLE, frame, **options)).version


def take(database: SqlDatabase, segments: Segments, **options: object) -> Snapshot:
    return database.read(lambda reader: segments.snapshot(reader, TABLE, **options))


def test_rows_come_back_in_the_order_in_which_they_joined(database: SqlDatabase, segments: Segments) -> None:
    first = pl.DataFrame({"carrier": ["UA", "AA"], "delay": [3, None]})
    second = pl.DataFrame({"carrier": ["DL"], "delay": [-4]})
    assert append(database, segments, first) == 1
    assert append(database, segments, second) == 2
    snapshot = take(database, segments)
    assert snapshot.rows == 3
    assert_frame_equal(snapshot.read(), pl.concat([first, second]))


def test_a_large_frame_is_staged_as_parquet(database: SqlDatabase, segments: Segments) -> None:
    frame = pl.DataFrame({"x": pl.Series(range(400_000)).shuffle(seed=1), "y": [0.5] * 400_000})
    with pytest.raises(TooLarge, match="stage"):
        append(database, segments, frame)
    staged = segments.stage(frame)
    assert staged.format == "parquet"
    assert staged.payload is None
    database.write(lambda tx: segments.append_staged(tx, TABLE, [staged]))
    assert_frame_equal(take(database, segments).read(), frame)


def test_every_type_survives_both_formats(database: SqlDatabase, segments: Segments) -> None:
    noon = datetime(2013, 3, 1, 12, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "int": [1, None],
            "float": [0.1, math.nan],
            "string": ["Zürich", ""],
            "bool": [True, None],
            "time": pl.Series([noon, None], dtype=pl.Datetime("us", "UTC")),
            "local": pl.Series([datetime(2013, 3, 1), None], dtype=pl.Datetime("us")),
            "date": [noon.date(), None],
            "binary": [b"\x00\xff", b""],
            "ints": [[1, 2], None],
            "floats": [[0.5], []],
            "strings": [["a"], [None]],
            "nothing": pl.Series([None, None], dtype=pl.Null),
        }
    )
    append(database, segments, frame)
    parquet = Segments(segments.blobs, settings=SegmentSettings(inline_bytes=0), clock=segments.clock)
    staged = parquet.stage(frame)
    database.write(lambda tx: segments.append_staged(tx, TABLE, [staged]))
    assert staged.format == "parquet"
    assert_frame_equal(take(database, segments).read(), pl.concat([frame, frame]))


def test_narrow_and_foreign_types_are_fitted(database: SqlDatabase, segments: Segments) -> None:
    zone = pl.Series([datetime(2013, 7, 1, 12)]).dt.replace_time_zone("America/New_York")
    frame = pl.DataFrame(
        {
            "i": pl.Series([7], dtype=pl.Int8),
            "f": pl.Series([0.5], dtype=pl.Float32),
            "c": pl.Series(["a"], dtype=pl.Categorical),
            "t": zone,
            "a": pl.Series([[1, 2]], dtype=pl.Array(pl.Int16, 2)),
        }
    )
    append(database, segments, frame)
    row = take(database, segments).read().row(0, named=True)
    assert row == {"i": 7, "f": 0.5, "c": "a", "t": datetime(2013, 7, 1, 16, tzinfo=UTC), "a": [1, 2]}


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        (pl.DataFrame({"s": [{"a": 1}]}), r"\$\.s"),
        (pl.DataFrame({"n": pl.Series([1], dtype=pl.Datetime("ns"))}), r"\$\.n"),
        (pl.DataFrame({"u": pl.Series([2**64 - 1], dtype=pl.UInt64)}), r"\$\.u"),
        (pl.DataFrame(), r"\$\.columns"),
    ],
)
def test_values_that_would_change_are_refused(
    database: SqlDatabase, segments: Segments, frame: pl.DataFrame, path: str
) -> None:
    with pytest.raises(InvalidInput, match=path):
        append(database, segments, frame)
    assert database.read(segments.tables) == []


def test_a_key_appends_once(database: SqlDatabase, segments: Segments) -> None:
    first = append(database, segments, pl.DataFrame({"x": [1]}), key="batch-1")
    append(database, segments, pl.DataFrame({"x": [2]}))
    again = append(database, segments, pl.DataFrame({"x": [1]}), key="batch-1")
    assert first == again
    assert take(database, segments).read()["x"].to_list() == [1, 2]


def test_many_writers_lose_nothing(database: SqlDatabase, segments: Segments) -> None:
    def write(worker: int) -> None:
        for index in range(20):
            append(database, segments, pl.DataFrame({"x": [worker * 100 + index]}))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = take(database, segments)
    assert snapshot.version == 160
    assert sorted(snapshot.read()["x"].to_list()) == [w * 100 + i for w in range(8) for i in range(20)]


def test_a_failing_unit_of_work_appends_nothing(database: SqlDatabase, segments: Segments) -> None:
    append(database, segments, pl.DataFrame({"x": [1]}))
    before = row_counts(database.engine)

    def work(tx: object) -> None:
        segments.append(tx, TABLE, pl.DataFrame({"x": [2]}))
        raise Conflict("no")

    with pytest.raises(Conflict):
        database.write(work)
    assert row_counts(database.engine) == before


def test_every_version_can_be_read(database: SqlDatabase, segments: Segments) -> None:
    for value in range(4):
        append(database, segments, pl.DataFrame({"x": [value]}))
    assert [take(database, segments, version=v).read()["x"].to_list() for v in (1, 2, 3, 4)] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3],
    ]  # fmt: skip
    for never in (0, 5):
        with pytest.raises(NotFound, match="versions 1 to 4"):
            take(database, segments, version=never)


def test_a_snapshot_does_not_move(database: SqlDatabase, segments: Segments) -> None:
    append(database, segments, pl.DataFrame({"x": [1]}))
    snapshot = take(database, segments)
    append(database, segments, pl.DataFrame({"x": [2]}))
    assert snapshot.read()["x"].to_list() == [1]


def test_replacing_takes_the_place_of_all_rows(database: SqlDatabase, segments: Segments) -> None:
    append(database, segments, pl.DataFrame({"x": [1], "gone": ["a"], "y": ["text"]}))
    staged = segments.stage(pl.DataFrame({"x": [2.5], "y": [1]}))
    made = database.write(lambda tx: segments.append_staged(tx, TABLE, [staged], replace=True))
    assert made.kind == "replace"
    assert_frame_equal(take(database, segments).read(), pl.DataFrame({"x": [2.5], "y": [1]}))
    old = pl.DataFrame({"x": [1], "gone": ["a"], "y": ["text"]})
    assert_frame_equal(take(database, segments, version=1).read(), old)
    assert database.read(lambda reader: segments.state(reader, TABLE)).rows == 1


class TestEvolution:
    def test_new_columns_are_null_in_old_rows(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1, 2]}))
        append(database, segments, pl.DataFrame({"y": ["a"]}))
        frame = take(database, segments).read()
        assert_frame_equal(frame, pl.DataFrame({"x": [1, 2, None], "y": [None, None, "a"]}))
        assert take(database, segments, columns=["y"]).read()["y"].to_list() == [None, None, "a"]

    def test_int_widens_to_float_and_stays(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1]}))
        append(database, segments, pl.DataFrame({"x": [0.5]}))
        append(database, segments, pl.DataFrame({"x": [2]}))
        assert_frame_equal(take(database, segments).read(), pl.DataFrame({"x": [1.0, 0.5, 2.0]}))
        assert take(database, segments, version=1).read().schema == {"x": pl.Int64()}

    def test_a_column_without_values_takes_any_type(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1], "t": pl.Series([None], dtype=pl.Null)}))
        append(database, segments, pl.DataFrame({"x": [2], "t": [datetime(2013, 1, 1, tzinfo=UTC)]}))
        append(database, segments, pl.DataFrame({"x": [3], "t": pl.Series([None], dtype=pl.Null)}))
        column = take(database, segments).read()["t"].to_list()
        assert column == [None, datetime(2013, 1, 1, tzinfo=UTC), None]

    def test_another_type_is_refused(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1]}))
        with pytest.raises(InvalidInput, match=r"'x' is int in this table, got string - at \$\.x"):
            append(database, segments, pl.DataFrame({"x": ["1"]}))

    def test_renaming_moves_all_rows(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1], "y": ["a"]}))
        database.write(lambda tx: segments.evolve(tx, TABLE, rename={"x": "y", "y": "x"}))
        append(database, segments, pl.DataFrame({"x": ["b"], "y": [2]}))
        assert_frame_equal(
            take(database, segments).read().select("x", "y"), pl.DataFrame({"x": ["a", "b"], "y": [1, 2]})
        )
        assert take(database, segments, version=1).read().to_dict(as_series=False) == {"x": [1], "y": ["a"]}

    def test_a_dropped_name_comes_back_empty(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1], "y": [1]}))
        database.write(lambda tx: segments.evolve(tx, TABLE, drop=["y"]))
        assert take(database, segments).read().columns == ["x"]
        append(database, segments, pl.DataFrame({"x": [2], "y": ["new"]}))
        assert take(database, segments).read()["y"].to_list() == [None, "new"]

    def test_adding_and_widening_by_hand(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1]}))
        database.write(lambda tx: segments.evolve(tx, TABLE, widen={"x": "float"}, add={"z": "time"}))
        frame = take(database, segments).read()
        assert frame.schema == {"x": pl.Float64(), "z": pl.Datetime("us", "UTC")}

    @pytest.mark.parametrize(
        "change",
        [
            {"drop": ["nope"]},
            {"drop": ["x", "y"]},
            {"rename": {"x": "y"}},
            {"rename": {"nope": "z"}},
            {"widen": {"x": "string"}},
            {"widen": {"y": "int"}},
            {"add": {"x": "int"}},
        ],
    )
    def test_changes_that_make_no_sense_are_refused(
        self, database: SqlDatabase, segments: Segments, change: dict[str, object]
    ) -> None:
        append(database, segments, pl.DataFrame({"x": [1], "y": [0.5]}))
        with pytest.raises(InvalidInput):
            database.write(lambda tx: segments.evolve(tx, TABLE, **change))
        assert take(database, segments).version == 1


class TestPruning:
    def test_only_files_in_range_are_read(self, database: SqlDatabase, segments: Segments) -> None:
        for start in range(0, 100, 10):
            append(database, segments, pl.DataFrame({"x": list(range(start, start + 10))}))
        snapshot = take(database, segments, where=("x", 25, 41))
        assert len(snapshot.files) == 3
        assert snapshot.read()["x"].to_list() == list(range(25, 42))
        assert take(database, segments, where=("x", 1000, None)).read().is_empty()

    def test_the_column_need_not_be_wanted(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1, 2, 3], "y": ["a", "b", "c"]}))
        frame = take(database, segments, columns=["y"], where=("x", 2, None)).read()
        assert_frame_equal(frame, pl.DataFrame({"y": ["b", "c"]}))

    def test_times_by_datetime_and_by_milliseconds(self, database: SqlDatabase, segments: Segments) -> None:
        start = datetime(2013, 1, 1, tzinfo=UTC)
        for day in range(5):
            append(database, segments, pl.DataFrame({"t": [start + timedelta(days=day)]}))
        low, high = start + timedelta(days=1), start + timedelta(days=2)
        by_time = take(database, segments, where=("t", low, high))
        low_ms, high_ms = (round(bound.timestamp() * 1000) for bound in (low, high))
        by_ms = take(database, segments, where=("t", low_ms, high_ms))
        assert len(by_time.files) == len(by_ms.files) == 2
        assert by_time.read()["t"].to_list() == by_ms.read()["t"].to_list() == [low, high]

    def test_nulls_nan_and_infinity_lie_in_no_or_the_right_range(
        self, database: SqlDatabase, segments: Segments
    ) -> None:
        append(database, segments, pl.DataFrame({"x": [math.nan, None, 1.0, math.inf, -math.inf]}))
        append(database, segments, pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64}))
        assert take(database, segments, where=("x", 0.0, None)).read()["x"].to_list() == [1.0, math.inf]
        assert take(database, segments, where=("x", None, 0)).read()["x"].to_list() == [-math.inf]
        assert len(take(database, segments, where=("x", None, None)).files) == 1

    def test_long_strings(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"s": ["b" * 100]}))
        for low, high, found in [("b" * 99, None, 1), ("a", "b" * 100, 1), ("c", None, 0), (None, "a", 0)]:
            assert take(database, segments, where=("s", low, high)).read().height == found

    def test_all_types_that_can_be_compared(self, database: SqlDatabase, segments: Segments) -> None:
        day = datetime(2013, 3, 1).date()
        append(
            database,
            segments,
            pl.DataFrame({"d": [day], "l": [datetime(2013, 3, 1, 5)], "b": [True], "n": [1]}),
        )
        assert take(database, segments, where=("d", day, day)).read().height == 1
        assert take(database, segments, where=("d", None, day - timedelta(days=1))).read().is_empty()
        assert take(database, segments, where=("l", datetime(2013, 3, 1), None)).read().height == 1
        assert take(database, segments, where=("l", datetime(2013, 3, 2), None)).files == ()
        assert take(database, segments, where=("b", True, True)).read().height == 1
        assert take(database, segments, where=("n", 0.5, 1.5)).read().height == 1

    @pytest.mark.parametrize("bound", ["1", datetime(2013, 1, 1), b"1"])
    def test_a_bound_of_another_type_is_refused(self, database: SqlDatabase, segments: Segments, bound: object) -> None:
        append(database, segments, pl.DataFrame({"x": [1]}))
        with pytest.raises(InvalidInput, match="cannot be compared"):
            take(database, segments, where=("x", bound, None))


class TestOrder:
    def test_disjoint_files_are_sorted_as_they_lie(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"t": [3, 1, 2]}), sort_by="t")
        append(database, segments, pl.DataFrame({"t": [5, 3]}), sort_by="t")
        snapshot = take(database, segments)
        assert snapshot.sorted_by == "t"
        ordered = snapshot.read(ordered=True)
        assert ordered["t"].to_list() == [1, 2, 3, 3, 5]
        assert ordered["t"].flags["SORTED_ASC"]

    def test_late_rows_are_sorted_in_on_demand(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"t": [10, 20], "v": ["a", "b"]}), sort_by="t")
        append(database, segments, pl.DataFrame({"t": [15], "v": ["late"]}), sort_by="t")
        snapshot = take(database, segments, columns=["v"])
        assert snapshot.sorted_by is None
        assert snapshot.read()["v"].to_list() == ["a", "b", "late"]
        assert snapshot.read(ordered=True)["v"].to_list() == ["a", "late", "b"]

    def test_a_missing_sort_column_is_refused(self, database: SqlDatabase, segments: Segments) -> None:
        with pytest.raises(InvalidInput, match="cannot sort by 'nope'"):
            append(database, segments, pl.DataFrame({"t": [1]}), sort_by="nope")
        append(database, segments, pl.DataFrame({"t": [1]}))
        with pytest.raises(InvalidInput, match="no sort column"):
            take(database, segments).read(ordered=True)


class TestFiles:
    @pytest.mark.parametrize("place", ["folder", "memory", "cache"])
    def test_parquet_is_read_from_everywhere(
        self, database: SqlDatabase, clock: FrozenClock, tmp_path: Path, place: str
    ) -> None:
        blobs: Blobs = FileBlobs(tmp_path / "b") if place == "folder" else MemoryBlobs()
        cache = tmp_path / "cache" if place == "cache" else None
        segments = Segments(blobs, cache=cache, settings=SegmentSettings(inline_bytes=0), clock=clock)
        frame = pl.DataFrame({"x": [1, 2], "y": ["a", "b"]})
        staged = segments.stage(frame)
        database.write(lambda tx: segments.append_staged(tx, TABLE, [staged]))
        for _ in range(2):
            assert_frame_equal(take(database, segments).read(), frame)

    def test_a_blob_of_somebody_else_is_adopted(
        self, database: SqlDatabase, segments: Segments, tmp_path: Path
    ) -> None:
        frame = pl.DataFrame({"x": pl.Series([3, 1], dtype=pl.Int16), "t": [datetime(2013, 1, 1)] * 2})
        frame.write_parquet(tmp_path / "theirs.parquet")
        staged = segments.adopt(segments.blobs.put((tmp_path / "theirs.parquet").read_bytes()))
        database.write(lambda tx: segments.append_staged(tx, TABLE, [staged]))
        snapshot = take(database, segments, where=("x", 2, None))
        assert snapshot.read()["x"].to_list() == [3]
        assert snapshot.columns[0].type == "int"

    def test_what_is_no_parquet_is_refused(self, segments: Segments) -> None:
        with pytest.raises(InvalidInput, match="not a Parquet file"):
            segments.adopt(segments.blobs.put(b"a,b\n1,2\n"))
        with pytest.raises(NotFound):
            segments.adopt("blake3:" + "0" * 64)

    def test_changed_bytes_are_found(self, database: SqlDatabase, blobs: FileBlobs, clock: FrozenClock) -> None:
        segments = Segments(blobs, settings=SegmentSettings(inline_bytes=0), clock=clock)
        staged = segments.stage(pl.DataFrame({"x": [1, 2, 3]}))
        database.write(lambda tx: segments.append_staged(tx, TABLE, [staged]))
        path = blobs.path(staged.digest)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(Corrupt, match="digest"):
            take(database, segments).read()
        path.unlink()
        with pytest.raises(Corrupt, match="gone"):
            take(database, segments).read()

    def test_changed_bytes_in_the_database_are_found(self, database: SqlDatabase, segments: Segments) -> None:
        append(database, segments, pl.DataFrame({"x": [1]}))
        snapshot = take(database, segments)
        payload = snapshot.files[0].payload or b""
        broken = msgspec.structs.replace(snapshot.files[0], payload=payload[:-1] + b"?")
        with pytest.raises(Corrupt):
            snapshot.of([broken]).read()

    def test_what_was_staged_too_long_ago_is_refused(
        self, database: SqlDatabase, blobs: FileBlobs, clock: FrozenClock
    ) -> None:
        segments = Segments(blobs, settings=SegmentSettings(inline_bytes=0, grace_s=10.0), clock=clock)
        staged = segments.stage(pl.DataFrame({"x": [1]}))
        clock.advance(seconds=6)
        with pytest.raises(Conflict, match="stage"):
            database.write(lambda tx: segments.append_staged(tx, TABLE, [staged]))


def test_an_empty_batch_makes_a_version(database: SqlDatabase, segments: Segments) -> None:
    append(database, segments, pl.DataFrame(schema={"x": pl.Int64}))
    assert take(database, segments).read().schema == {"x": pl.Int64()}


def test_nothing_staged_and_no_table(database: SqlDatabase, segments: Segments) -> None:
    with pytest.raises(InvalidInput, match="nothing is staged"):
        database.write(lambda tx: segments.append_staged(tx, TABLE, []))
    with pytest.raises(NotFound, match="no table"):
        take(database, segments)


def test_an_unknown_column_is_named(database: SqlDatabase, segments: Segments) -> None:
    append(database, segments, pl.DataFrame({"x": [1]}))
    with pytest.raises(InvalidInput, match="no column 'y'; there is x"):
        take(database, segments, columns=["y"])
