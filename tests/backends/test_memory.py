"""The engines that live in the process."""

from __future__ import annotations

import pytest

from salus.backends.memory import MemoryBlobs, MemoryKeyValue, open_memory
from salus.kernel.errors import InvalidInput
from salus.testing.conformance import BlobsConformance, KeyValueConformance


class TestMemoryKeyValue(KeyValueConformance):
    @pytest.fixture
    def key_value(self) -> MemoryKeyValue:
        return MemoryKeyValue()


class TestMemoryBlobs(BlobsConformance):
    @pytest.fixture
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()

    def damage(self, blobs: MemoryBlobs, digest: str) -> None:
        blobs._held[digest] = (b"other", 0)


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    key_value = MemoryKeyValue(max_bytes=10 * 1_300)
    for number in range(10):
        key_value.set_many([(b"%d" % number, b"x" * 1_000)])
    assert key_value.get_many([b"0"])[0] is not None
    key_value.set_many([(b"new", b"x" * 1_000)])
    assert key_value.get_many([b"0", b"1", b"new"]) == [b"x" * 1_000, None, b"x" * 1_000]
    key_value.set_many([(b"huge", b"x" * 100_000)])
    assert key_value.get_many([b"huge"]) == [None]


def test_time_to_live_follows_the_clock() -> None:
    now_s = 0.0
    key_value = MemoryKeyValue(monotonic_s=lambda: now_s)
    key_value.set_many([(b"k", b"1")], ttl_s=10)
    now_s = 9.9
    assert key_value.get_many([b"k"]) == [b"1"]
    now_s = 10.0
    assert key_value.get_many([b"k"]) == [None]


def test_the_bound_comes_from_the_address() -> None:
    key_value = open_memory("memory://?max_bytes=500")
    key_value.set_many([(b"k", b"x" * 400)])
    assert key_value.get_many([b"k"]) == [None]
    for wrong in ("0", "-1", "many"):
        with pytest.raises(InvalidInput, match="max_bytes"):
            open_memory(f"memory://?max_bytes={wrong}")
