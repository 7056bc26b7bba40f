"""Commits through the service functions, on both databases: all of a batch or nothing."""

from __future__ import annotations

import io
import random

import msgspec
import polars as pl
import pytest

from salus.data import ingest, service, tables
from salus.data.expectations import InRange
from salus.data.model import FileRef, NewVersion, PutDataset
from salus.data.tables import read_parquet, write_parquet
from salus.kernel import ledger
from salus.kernel.errors import Conflict, InvalidInput, NotFound, TooLarge
from salus.kernel.identity import Actor
from salus.kernel.schema import Column, Schema
from salus.kernel.segments import Segments
from salus.testing.fixtures import row_counts

FIRST = pl.DataFrame({"origin": ["EWR", "JFK"], "temp": [10.0, 20.0], "seats": [1, 2]})


@pytest.fixture
def segments(blobs):
    return Segments(blobs)


@pytest.fixture
def commit(database, segments, actor):
    def commit_(frame, *, name="flights", mode="append", key=None, message="", who=actor):
        body = NewVersion(files=(FileRef(digest=segments.blobs.put(write_parquet(frame))),), mode=mode, message=message)
        return ingest.commit(database, segments, who, name, body, key)

    return commit_


def put(database, actor, **what):
    return database.write(lambda tx: service.put_dataset(tx, actor, "flights", PutDataset(**what)))


def kinds(database, actor):
    return [entry.kind for entry in database.read(lambda r: ledger.read(r, workspace=actor.workspace))]


def test_versions_append_and_replace(database, segments, actor, commit):
    one = commit(FIRST, message="first")
    two = commit(FIRST)
    three = commit(FIRST.head(1), mode="replace")
    assert [(v.version, v.rows, v.added_rows, len(v.files)) for v in (one, two, three)] == [
        (1, 2, 2, 1),
        (2, 4, 2, 2),
        (3, 1, 1, 1),
    ]
    assert one.profile.get("temp").mean == 15.0
    held = database.read(lambda r: segments.snapshot(r, "dataset:default/flights")).read()
    assert held.equals(FIRST.head(1))
    then = database.read(lambda r: segments.snapshot(r, "dataset:default/flights", version=2)).read()
    assert then.equals(pl.concat([FIRST, FIRST]))
    newest = database.read(lambda r: service.get_version(r, actor, "flights"))
    assert newest == three
    assert kinds(database, actor) == ["DatasetVersionCommitted"] * 3
    with pytest.raises(NotFound, match="1 to 3"):
        database.read(lambda r: service.get_version(r, actor, "flights", 4))


def test_the_same_content_has_the_same_digest(commit):
    one, two = commit(FIRST, name="a"), commit(FIRST, name="b")
    other = commit(FIRST.with_columns(temp=pl.lit(1.0)), name="c")
    assert one.digest == two.digest != other.digest
    assert commit(FIRST, name="a").digest != one.digest


def test_a_refused_batch_leaves_its_report_in_the_ledger_and_nothing_else(database, actor, commit):
    commit(FIRST)
    put(database, actor, expectations=(InRange(column="temp", low=-40, high=120),))
    before = row_counts(database.engine)
    with pytest.raises(InvalidInput) as caught:
        commit(FIRST.with_columns(temp=pl.lit(999.0)).drop("seats"))
    after = row_counts(database.engine)
    assert {name for name in after if after[name] != before[name]} == {"ledger"}
    assert [found["rule"] for found in caught.value.details["violations"]] == ["missing_column", "in_range"]
    entry = database.read(lambda r: ledger.read(r, kinds=["BatchRefused"]))[0]
    assert entry.subject == "dataset:flights"
    assert entry.data["violations"][1]["examples"][0] == {"row": 0, "value": 999.0}


def test_the_first_version_binds_the_following(commit):
    commit(FIRST)
    with pytest.raises(InvalidInput, match="temp has the type float"):
        commit(FIRST.with_columns(temp=pl.lit("warm")))


def test_a_schema_may_grow_and_the_change_is_told(database, segments, actor, commit):
    commit(FIRST)
    grown = Schema(
        columns=(
            Column(name="origin", dtype="string"),
            Column(name="seats", dtype="float"),
            Column(name="wind", dtype="float"),
        )
    )
    put(database, actor, schema=grown)
    version = commit(pl.DataFrame({"origin": ["LGA"], "seats": [1.5], "wind": [3.0]}))
    change = version.schema_change
    assert (change.added, change.removed, [c.name for c in change.changed]) == (("wind",), ("temp",), ["seats"])
    assert version.rows == 3


def test_a_type_that_cannot_hold_older_rows_needs_a_replacement(database, actor, commit):
    commit(FIRST)
    columns = tuple(Column(name=name, dtype="string") for name in FIRST.columns)
    put(database, actor, schema=Schema(columns=columns))
    texts = FIRST.cast(pl.String)
    with pytest.raises(InvalidInput, match="replace"):
        commit(texts)
    assert commit(texts, mode="replace").version == 2


def test_a_repeated_request_commits_once(commit):
    one, again = commit(FIRST, key="k1"), commit(FIRST, key="k1")
    assert one == again
    assert commit(FIRST, key="k2").version == 2
    with pytest.raises(Conflict):
        commit(FIRST.head(1), key="k1")


def test_rules_that_change_while_a_batch_is_checked_are_noticed(database, segments, actor, commit):
    first = commit(FIRST)
    batch = service.CheckedBatch(
        schema=first.schema,
        profile=first.profile,
        rows=2,
        sources=("x",),
        file=first.files[0],
        staged=segments.adopt(first.files[0].digest),
        revision=0,
    )
    put(database, actor, expectations=(InRange(column="temp", low=0),))
    body = NewVersion(files=())
    with pytest.raises(Conflict, match="while the batch was checked"):
        database.write(lambda tx: service.commit_version(tx, actor, "flights", body, batch, segments))


def test_workspaces_do_not_see_each_other(database, commit):
    commit(FIRST)
    other = Actor(principal="bob", role="admin", workspace="other")
    with pytest.raises(NotFound):
        database.read(lambda r: service.get_dataset(r, other, "flights"))
    assert commit(FIRST.select("temp"), who=other).version == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", InvalidInput),
        (b"PAR1PAR1PAR1", InvalidInput),
        (b"\x80\x04\x95not a table", InvalidInput),
        (b"PAR1" + b"\x00" * 40 + (10**9).to_bytes(4, "little") + b"PAR1", InvalidInput),
        (write_parquet(pl.DataFrame({"x": [[1]]})), InvalidInput),
        (write_parquet(pl.DataFrame({f"c{index}": [1] for index in range(2_001)})), TooLarge),
        (write_parquet(pl.DataFrame({"x": [1]}))[:-9], InvalidInput),
    ],
)
def test_bytes_that_are_no_table_are_refused(database, segments, actor, content, error):
    body = NewVersion(files=(FileRef(digest=segments.blobs.put(content)),))
    with pytest.raises(error):
        ingest.commit(database, segments, actor, "flights", body)
    assert database.read(ledger.head) == 0


def test_a_small_file_that_says_it_holds_too_much_is_refused_unread(monkeypatch):
    bomb = write_parquet(pl.DataFrame({"x": pl.repeat(0, 200_000, eager=True)}))
    assert len(bomb) < 2_000
    monkeypatch.setattr(tables, "MAX_CELLS", 199_999)
    with pytest.raises(TooLarge, match="cells"):
        read_parquet(bomb)


def test_damaged_parquet_never_does_worse_than_invalid_input():
    buffer = io.BytesIO()
    FIRST.write_parquet(buffer)
    chance = random.Random(7)
    for _ in range(150):
        damaged = bytearray(buffer.getvalue())
        for _ in range(3):
            damaged[chance.randrange(4, len(damaged) - 8)] = chance.randrange(256)
        try:
            read_parquet(bytes(damaged))
        except (InvalidInput, TooLarge):
            continue


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"files": []}, "$.files"),
        ({"files": [{"digest": "../../etc/passwd"}]}, "$.files[0].digest"),
        ({"files": [{"digest": "blake3:" + "0" * 64}]}, "$.files[0].digest"),
    ],
)
def test_a_file_that_is_not_there_is_named(database, segments, actor, body, path):
    with pytest.raises(InvalidInput) as caught:
        ingest.commit(database, segments, actor, "flights", msgspec.convert(body, NewVersion))
    assert caught.value.path == path


def test_several_files_make_one_batch(database, segments, actor):
    digests = [segments.blobs.put(write_parquet(FIRST.head(rows))) for rows in (1, 2)]
    body = NewVersion(files=tuple(FileRef(digest=name) for name in digests))
    assert ingest.commit(database, segments, actor, "flights", body).rows == 3
    odd = segments.blobs.put(write_parquet(FIRST.select("temp")))
    with pytest.raises(InvalidInput, match="same columns"):
        ingest.commit(database, segments, actor, "flights", NewVersion(files=(*body.files, FileRef(digest=odd))))
