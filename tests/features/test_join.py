"""The point-in-time join against a loop that says the law word by word."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.features.join import point_in_time_join
from salus.kernel.errors import InvalidInput

KEYS = st.sampled_from(["EWR", "JFK", None])
MOMENT = st.integers(0, 12)
HISTORY = st.lists(st.tuples(KEYS, MOMENT, MOMENT, st.one_of(st.none(), st.integers(0, 99))), max_size=25)
SPINE = st.lists(st.tuples(KEYS, MOMENT), max_size=15)


def naive(spine, history, ttl_ms, known_at):
    found = []
    for key, at in spine:
        best = None
        for order, (theirs, event, created, value) in enumerate(history):
            if key is None or theirs != key or event > at or (known_at and created > at):
                continue
            rank = (event, created if known_at else 0, order)
            if best is None or rank > best[0]:
                best = (rank, value)
        fresh = best is not None and (ttl_ms is None or at - best[0][0] <= ttl_ms)
        found.append(best[1] if fresh else None)
    return found


def frames(spine, history):
    left = pl.DataFrame(spine, schema={"origin": pl.String, "at": pl.Int64}, orient="row")
    right = pl.DataFrame(
        history,
        schema={"origin": pl.String, "seen": pl.Int64, "created_ms": pl.Int64, "temp": pl.Int64},
        orient="row",
    )
    return left, right


@settings(max_examples=300, deadline=None)
@given(SPINE, HISTORY, st.one_of(st.none(), st.integers(0, 8)), st.booleans())
def test_it_agrees_with_a_naive_loop(spine, history, ttl_ms, known_at):
    left, right = frames(spine, history)
    if not known_at:
        right = right.drop("created_ms")
    joined = point_in_time_join(
        left, right, ["origin"], "at", "seen", ttl_ms, created="created_ms" if known_at else None
    )
    assert joined.columns == ["origin", "at", "temp"]
    assert joined.select("origin", "at").equals(left)
    assert joined["temp"].to_list() == naive(spine, history, ttl_ms, known_at)


def test_a_value_of_the_future_or_past_its_time_is_never_used():
    left, right = frames([("EWR", 9), ("EWR", 10), ("EWR", 15), ("EWR", 16)], [("EWR", 10, 0, 7)])
    joined = point_in_time_join(left, right.drop("created_ms"), ["origin"], "at", "seen", 5)
    assert joined["temp"].to_list() == [None, 7, 7, None]


def test_a_late_row_counts_from_when_it_was_known():
    """The row of 5 arrived at 9: at 7 one still had the row of 3, and the row of 4 that came at 10 changes nothing."""
    history = [("EWR", 3, 3, 30), ("EWR", 5, 9, 50), ("EWR", 4, 10, 40)]
    left, right = frames([("EWR", 7), ("EWR", 9), ("EWR", 11)], history)
    joined = point_in_time_join(left, right, ["origin"], "at", "seen", None, created="created_ms")
    assert joined["temp"].to_list() == [30, 50, 50]


def test_several_keys_under_other_names_and_other_integer_types():
    spine = pl.DataFrame({"from": ["EWR", "EWR"], "gate": pl.Series([1, 2], dtype=pl.Int8), "at": [5, 5]})
    history = pl.DataFrame({"origin": ["EWR", "EWR"], "no": [1, 2], "t": [1, 2], "open": [True, False]})
    joined = point_in_time_join(spine, history, {"origin": "from", "no": "gate"}, "at", "t")
    assert joined["open"].to_list() == [True, False]


def test_times_may_be_datetimes_of_any_unit():
    at = pl.Series([1_000_000_001]).cast(pl.Datetime("us"))
    event = pl.Series([1_000_000]).cast(pl.Datetime("ms", "UTC"))
    spine, history = pl.DataFrame({"k": ["a"], "at": at}), pl.DataFrame({"k": ["a"], "t": event, "x": [1]})
    assert point_in_time_join(spine, history, ["k"], "at", "t", 0)["x"].to_list() == [1]


@pytest.mark.parametrize(
    ("spine", "history", "path"),
    [
        ({"k": ["a"], "at": [None]}, {"k": ["a"], "t": [1], "x": [1]}, "$.spine.at"),
        ({"k": ["a"], "at": [1]}, {"k": ["a"], "t": [None], "x": [1]}, "$.history.t"),
        ({"k": ["a"]}, {"k": ["a"], "t": [1], "x": [1]}, "$.spine.at"),
        ({"k": [1], "at": [1]}, {"k": ["a"], "t": [1], "x": [1]}, "$.spine.k"),
        ({"k": ["a"], "at": [1], "x": [1]}, {"k": ["a"], "t": [1], "x": [1]}, "$.spine.x"),
        ({"k": ["a"], "at": [1.5]}, {"k": ["a"], "t": [1], "x": [1]}, "$.at"),
    ],
)
def test_what_cannot_be_joined_is_named(spine, history, path):
    left = pl.DataFrame(spine).with_columns(pl.col(pl.Null).cast(pl.Int64))
    right = pl.DataFrame(history).with_columns(pl.col(pl.Null).cast(pl.Int64))
    with pytest.raises(InvalidInput) as caught:
        point_in_time_join(left, right, ["k"], "at", "t")
    assert caught.value.path == path
