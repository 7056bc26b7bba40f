"""Streams in the process."""

from __future__ import annotations

import pytest

from salus.backends.streams import MemoryStreams
from salus.kernel.errors import InvalidInput, Overloaded
from salus.testing.conformance import StreamsConformance


class TestMemoryStreams(StreamsConformance):
    @pytest.fixture
    def streams(self) -> MemoryStreams:
        return MemoryStreams()


def test_a_full_topic_pushes_back_until_its_groups_have_committed() -> None:
    streams = MemoryStreams(max_messages=3)
    streams.poll("t", "g", 1, 0)
    streams.publish("t", [(b"", b"1")] * 3)
    with pytest.raises(Overloaded):
        streams.publish("t", [(b"", b"4")])
    streams.commit("t", "g", streams.poll("t", "g", 2, 0)[-1].position)
    streams.publish("t", [(b"", b"4")])
    assert [m.value for m in streams.poll("t", "g", 5, 0)] == [b"1", b"4"]


def test_committing_what_was_not_given_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most what it was given"):
        MemoryStreams().commit("t", "g", 1)
