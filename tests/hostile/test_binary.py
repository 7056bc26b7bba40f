"""Binary bodies that are garbage, damaged, too large when unpacked, or beyond what tables and indexes hold."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import psutil
import pytest

from salus.data.arrow_size import declared_bytes
from salus.kernel.errors import InvalidInput
from salus.serving.wire import Answer as Said
from salus.serving.wire import PredictionBatch, PredictionRecord

API = "/api/v1"
ROWS = f"{API}/features/views/weather/rows"
SHIP = f"{API}/serving/predictions"
RAW = {"Content-Type": "application/octet-stream"}
GARBAGE = {
    "nothing": b"",
    "noise": random.Random(1).randbytes(500),
    "noise in an Arrow frame": b"ARROW1\0\0" + random.Random(2).randbytes(400) + b"ARROW1",
    "noise in a Parquet frame": b"PAR1" + random.Random(3).randbytes(100) + (50).to_bytes(4, "little") + b"PAR1",
    "a list that says it is endless": b"\xdd\xff\xff\xff\xff",
    "200,000 lists in lists": b"\x91" * 200_000,
    "no UTF-8": b"\x81\xa5plane\xa2\xff\xfe",
    "JSON": b'{"plane": "p"}',
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_refused_by_every_binary_route(town: Any, what: str) -> None:
    raw, head = GARBAGE[what], town.head()
    for address in (ROWS, SHIP):
        problem = town.send("POST", address, raw, RAW).problem
        assert problem["status"] in {413, 422}, problem
        assert problem["path"].startswith("$")
    stored = json.loads(town.send("PUT", f"{API}/blobs", raw, RAW).body)
    body = json.dumps({"files": [{"digest": stored["digest"]}]}).encode()
    assert town.send("POST", f"{API}/datasets/flights/versions", body).problem["path"] == "$.files[0]"
    assert town.entries_of_clients(head) == []


@pytest.mark.parametrize(
    ("columns", "path"),
    [
        ({"temp": [float("nan")]}, "$.temp"),
        ({"temp": [float("inf")]}, "$.temp"),
        ({"temp": ["warm"]}, "$.temp"),
        ({"temp": [[1.0]]}, "$.temp"),
        ({"temp": None}, "$.temp"),
        ({"more": [1]}, "$.more"),
        ({"origin": [None]}, "$.origin"),
        ({"origin": ["a\0b"]}, "$.origin"),
        ({"origin": ["k" * 10_000]}, "$.origin"),
        ({"at": [-(2**62)]}, "$.at"),
        ({"at": [2**62]}, "$.at"),
    ],
)
def test_feature_rows_that_break_a_law_name_the_column(town: Any, columns: dict[str, Any], path: str) -> None:
    head = town.head()
    problem = town.send("POST", ROWS, town.feature_rows(**columns), RAW).problem
    assert (problem["status"], problem["path"]) == (422, path)
    assert "Nothing was written" in problem["remedy"]
    assert town.head() == head


def test_a_small_arrow_file_that_unpacks_to_gigabytes_takes_no_memory(town: Any) -> None:
    rows, buffer = 20_000_000, io.BytesIO()
    pl.select(temp=pl.repeat(0.0, rows), at=pl.repeat(0, rows), more=pl.repeat(1.0, rows)).write_ipc(
        buffer, compression="zstd"
    )
    raw = buffer.getvalue()
    assert len(raw) < 1_000_000
    process = psutil.Process()
    before = process.memory_info().rss
    problem = town.send("POST", ROWS, raw, RAW).problem
    assert (problem["status"], problem["type"]) == (413, "urn:salus:too-large")
    assert process.memory_info().rss - before < 50_000_000


@pytest.mark.parametrize("compression", ["uncompressed", "zstd", "lz4"])
def test_what_an_arrow_file_unpacks_to_is_known_without_reading_it(compression: Any) -> None:
    frame = pl.DataFrame({"a": list(range(10_000)), "s": [f"x{n}" for n in range(10_000)]})
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression=compression)
    assert 80_000 < declared_bytes(buffer.getvalue()) < 1_000_000


def test_a_damaged_arrow_file_is_measured_or_refused() -> None:
    chance, buffer = random.Random(5), io.BytesIO()
    pl.DataFrame({"a": [1, 2, 3], "s": ["x", "y", None]}).write_ipc(buffer, compression="zstd")
    refused = 0
    for _ in range(2_000):
        raw = bytearray(buffer.getvalue())
        for _ in range(chance.randint(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        try:
            assert declared_bytes(bytes(raw)) >= 0
        except InvalidInput:
            refused += 1
    assert 100 < refused < 2_000


def batch(town: Any, **fields: Any) -> bytes:
    revision = town.clinic.detail().split[0].revision
    made: dict[str, Any] = {
        "seq": town.clinic.seq + 1,
        "endpoint": "delay",
        "event_ms": 1_400_000_000_000,
        "at_ms": 1,
        "key": "k",
        "inputs": {"x": 1.0, "temp": 1.0, "carrier": "AA"},
        "answers": (Said(revision, "live", {"probability": 0.5}, None, 1),),
    }
    record = PredictionRecord(**{**made, **fields})
    first = town.clinic.seq + 1
    return msgspec.msgpack.encode(
        PredictionBatch(plane=town.clinic.plane, first_seq=first, last_seq=first, records=(record,))
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"event_ms": 2**63},
        {"event_ms": 2**62},
        {"event_ms": -1},
        {"seq": 2**63},
        {"endpoint": "a\0b"},
        {"endpoint": "k" * 10_000},
        {"answers": (Said("nothing", "live", {}, None, 1),)},
        {"answers": (Said("nothing", "live", {}, None, 2**64 - 1),)},
    ],
)
def test_predictions_that_break_a_law_are_refused_whole(town: Any, fields: dict[str, Any]) -> None:
    head = town.head()
    problem = town.send("POST", SHIP, batch(town, **fields), RAW).problem
    assert problem["status"] in {404, 422}
    assert problem["path"].startswith("$.")
    assert town.head() == head


@pytest.mark.parametrize("key", ["a\0b", "k" * 100_000, os.urandom(5_000).hex(), "\U0001f4a5" * 1_000, ""])
def test_no_key_of_an_acknowledged_prediction_blocks_its_planes_spool(
    town: Any, check: Callable[..., None], key: str
) -> None:
    """The data plane has answered already: what it then cannot ship, it could never let go of."""
    shipped = town.send("POST", SHIP, batch(town, key=key), RAW)
    assert shipped.status == 200, shipped.body
    town.clinic.seq += 1
    assert json.loads(shipped.body)["through_seq"] == town.clinic.seq
    if key and "\0" not in key:
        label = {"labels": [{"value": 1, "event_ms": 1_400_000_000_001, "key": key}]}
        answer = town.send("POST", f"{API}/endpoints/delay/labels", json.dumps(label).encode())
        assert json.loads(answer.body)["recorded"] == 1, answer.body
