"""From addresses to engines."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from salus.backends import addresses
from salus.backends.files import FileBlobs
from salus.backends.local import LocalExecutor
from salus.backends.memory import MemoryBlobs, MemoryKeyValue
from salus.backends.redis import RedisKeyValue
from salus.backends.s3 import StoreBlobs
from salus.backends.streams import MemoryStreams
from salus.kernel.clock import FrozenClock
from salus.kernel.errors import InvalidInput, MissingExtra
from salus.kernel.extras import load


def test_each_address_opens_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert isinstance(addresses.open_blobs(f"file://{tmp_path}/blobs"), FileBlobs)
    assert isinstance(addresses.open_blobs("memory://"), MemoryBlobs)
    assert isinstance(addresses.open_blobs("s3://bucket/prefix"), StoreBlobs)
    assert isinstance(addresses.open_blobs("gs://bucket"), StoreBlobs)
    assert isinstance(addresses.open_key_value("memory://"), MemoryKeyValue)
    assert isinstance(addresses.open_key_value("redis://localhost:1/0"), RedisKeyValue)
    assert isinstance(addresses.open_streams("memory://"), MemoryStreams)
    executor = addresses.open_executor("processes://?workers=1")
    assert isinstance(executor, LocalExecutor)
    executor.close()


def test_a_database_gets_the_clock(database_address: str) -> None:
    database = addresses.open_database(database_address, FrozenClock(5))
    assert database.read(lambda reader: reader.now_ms) == 5
    database.close()


@pytest.mark.parametrize("address", ["mysql://x", "sqlite", "", "/tmp/salus.db"])
def test_an_unknown_scheme_says_what_there_is(address: str) -> None:
    with pytest.raises(InvalidInput, match="there is postgresql:, sqlite: - at SALUS_DATABASE"):
        addresses.open_database(address)


class OwnBlobs(MemoryBlobs):
    """A backend of somebody else's."""


def open_own(address: str) -> OwnBlobs:
    return OwnBlobs()


def test_an_installed_package_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="blobs.own", value=f"{__name__}:open_own", group="salus.backends")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[OwnBlobs.__module__])
    monkeypatch.setattr(addresses, "entry_points", lambda group: [entry] if group == "salus.backends" else [])
    assert isinstance(addresses.open_blobs("own://anywhere"), OwnBlobs)
    assert "own" in addresses.known_schemes("blobs")
    with pytest.raises(InvalidInput, match="own:"):
        addresses.open_blobs("nobody://")


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "salus.backends.redis")
    with pytest.raises(MissingExtra, match=r"pip install 'salus-mlops\[redis\]'"):
        addresses.open_key_value("redis://localhost")


def test_a_mistake_of_our_own_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError):
        load("salus.backends.nothing:open", extra="redis")


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    script = "import sys, salus.backends.addresses; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"redis", "obstore", "psycopg", "polars", "salus.backends.s3"})
