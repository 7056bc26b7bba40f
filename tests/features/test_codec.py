"""Packed online rows: what goes in comes out, and damage is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.features.codec import event_ms_of, pack, read_fresh, unpack
from salus.features.online import newest_at, plan
from salus.kernel.errors import Corrupt
from salus.kernel.schema import Column

VALUES = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "time": st.integers(0, 2**45),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "string": st.text(max_size=30),
}


@st.composite
def rows(draw):
    types = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=20))
    features = tuple(Column(name=f"f{index}", dtype=dtype) for index, dtype in enumerate(types))
    values = tuple(draw(st.one_of(st.none(), VALUES[dtype])) for dtype in types)
    return features, draw(st.integers(-(2**62), 2**62)), values


@given(rows())
def test_what_is_packed_comes_out(row):
    features, event_ms, values = row
    raw = pack(features, event_ms, values)
    assert unpack(features, raw) == (event_ms, values)
    assert event_ms_of(raw) == event_ms


@given(rows())
def test_a_feature_that_was_added_later_is_missing_in_older_rows(row):
    features, event_ms, values = row
    later = (*features, Column(name="new", dtype="string"))
    assert unpack(later, pack(features, event_ms, values)) == (event_ms, (*values, None))


@given(rows(), st.data())
def test_a_row_that_was_cut_is_corrupt(row, data):
    features, event_ms, values = row
    raw = pack(features, event_ms, values)
    with pytest.raises(Corrupt):
        unpack(features, raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(Corrupt):
        unpack(features, raw + b"x")


def test_the_time_to_live_is_checked_when_it_is_read():
    features = (Column(name="temp", dtype="float"),)
    held = [pack(features, 10, (1.0,)), pack(features, 20, (2.0,))]
    assert read_fresh(features, held, 19, 9) == (1.0,)
    assert read_fresh(features, held, 20, 9) == (2.0,)
    assert read_fresh(features, held, 30, 9) is None
    assert read_fresh(features, held, 9, None) is None


MOMENTS = st.lists(st.integers(0, 30), max_size=8)


@given(st.lists(MOMENTS, max_size=6), st.integers(1, 4))
def test_whatever_the_order_of_arrival_the_newest_stay(pushes, depth):
    held: set[int] = set()
    for moments in pushes:
        write, drop = plan({"k": sorted(held)}, {"k": moments}, depth)
        held = (held | write.get("k", set())) - drop.get("k", set())
    assert held == set(sorted({moment for moments in pushes for moment in moments})[-depth:])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers()), max_size=8), st.integers(0, 9))
def test_a_lookup_never_sees_the_future(held, at_ms):
    found = newest_at(held, at_ms, None)
    past = [row for row in held if row[0] <= at_ms]
    assert (found is None) == (not past)
    if past:
        newest = max(event for event, _ in past)
        assert found == [value for event, value in past if event == newest][-1]
