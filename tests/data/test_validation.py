"""Laws and the batches that break them: what is reported, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.data.expectations import (
    Compare,
    Fresh,
    InRange,
    InSet,
    Matches,
    NotNull,
    RowCount,
    Unique,
    check_expectations,
)
from salus.data.inference import infer_expectations
from salus.data.profile import profile, profile_column
from salus.data.tables import schema_of
from salus.data.validation import check_patterns, refusal, validate
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Schema

NOW_MS = 1_362_096_000_000
SCHEMA = Schema(
    columns=(
        Column(name="origin", dtype="string", nullable=False),
        Column(name="temp", dtype="float"),
        Column(name="seats", dtype="int"),
        Column(name="at", dtype="time"),
    )
)


def batch(**columns):
    rows = max([len(values) for values in columns.values() if values is not None], default=3)
    whole = {
        "origin": ["EWR", "JFK", "LGA"][:rows],
        "temp": [10.0, None, 30.0][:rows],
        "seats": [100, 200, None][:rows],
        "at": [datetime(2013, 3, 1, tzinfo=UTC)] * rows,
        **columns,
    }
    return pl.DataFrame({name: values for name, values in whole.items() if values is not None})


def broken(frame, *expectations):
    report = validate(frame, SCHEMA, expectations, now_ms=NOW_MS)
    return [(found.rule, found.column, found.count) for found in report.violations]


def test_a_sound_batch_passes():
    laws = (
        NotNull(column="temp", max_missing_ratio=0.5),
        InRange(column="temp", low=-40, high=120),
        InRange(column="at", high=NOW_MS),
        InSet(column="origin", values=("EWR", "JFK", "LGA")),
        Matches(column="origin", pattern="[A-Z]{3}"),
        Unique(columns=("origin",)),
        RowCount(low=1, high=3),
        Fresh(column="at", max_age_s=3600),
        Compare(left="temp", operator="<", right="seats"),
    )
    assert broken(batch(), *laws) == []


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (batch(temp=None), ("missing_column", "temp", 3)),
        (batch(gate=[1, 2, 3]), ("unknown_column", "gate", 3)),
        (batch(temp=["warm", None, "cold"]), ("wrong_type", "temp", 2)),
        (batch(seats=[1.5, 2.5, 3.5]), ("wrong_type", "seats", 3)),
        (batch(at=[1, 2, 3]), ("wrong_type", "at", 3)),
        (batch(origin=["EWR", None, None]), ("not_null", "origin", 2)),
        (batch(temp=[float("nan"), 1.0, float("inf")]), ("finite", "temp", 2)),
        (batch(seats=pl.Series([2**63, 1, 2], dtype=pl.UInt64)), ("wrong_type", "seats", 3)),
    ],
)
def test_the_schema_is_law(frame, found):
    assert broken(frame) == [found]


@pytest.mark.parametrize(
    ("law", "frame", "found"),
    [
        (NotNull(column="temp", max_missing_ratio=0.3), batch(), ("not_null", "temp", 1)),
        (InRange(column="temp", low=15), batch(), ("in_range", "temp", 1)),
        (InRange(column="at", low=NOW_MS + 1), batch(), ("in_range", "at", 3)),
        (InSet(column="origin", values=("EWR",)), batch(), ("in_set", "origin", 2)),
        (InSet(column="seats", values=(100,)), batch(), ("in_set", "seats", 1)),
        (Matches(column="origin", pattern="E|J"), batch(), ("matches", "origin", 3)),
        (Unique(columns=("origin",)), batch(origin=["EWR", "EWR", "JFK"]), ("unique", "origin", 2)),
        (Unique(columns=("origin", "seats")), batch(origin=["A"] * 3, seats=[1, 1, 2]), ("unique", "origin", 2)),
        (RowCount(low=4), batch(), ("row_count", None, 3)),
        (RowCount(low=0, high=2), batch(), ("row_count", None, 3)),
        (Fresh(column="at", max_age_s=60), batch(at=[datetime(2013, 2, 28, tzinfo=UTC)] * 3), ("fresh", "at", 3)),
        (Compare(left="temp", operator=">=", right="seats"), batch(), ("compare", "temp", 1)),
    ],
)
def test_each_expectation_names_what_breaks_it(law, frame, found):
    assert broken(frame, law) == [found]


def test_a_ratio_tolerates_a_few():
    assert broken(batch(temp=[1.0, 2.0, 999.0]), InRange(column="temp", high=100, max_outside_ratio=0.34)) == []
    assert broken(batch(temp=[1.0, 999.0, 999.0]), InRange(column="temp", high=100, max_outside_ratio=0.34))


def test_a_narrower_type_is_widened_and_all_missing_is_no_wrong_type():
    frame = batch(temp=[1, 2, 3], seats=pl.Series([1, 2, 3], dtype=pl.UInt8))
    assert broken(frame) == []
    assert broken(batch(temp=[None, None, None])) == [] == broken(batch().with_columns(temp=pl.lit(None)))


def test_all_broken_laws_are_told_at_once_with_examples():
    frame = batch(temp=[-999.0, None, 500.0], origin=["EWR", "XXX", "JFK"], gate=[1, 2, 3])
    laws = (InRange(column="temp", low=-40, high=120), InSet(column="origin", values=("EWR", "JFK")))
    report = validate(frame, SCHEMA, laws, now_ms=NOW_MS, dataset="flights")
    assert [found.rule for found in report.violations] == ["unknown_column", "in_range", "in_set"]
    assert [(example.row, example.value) for example in report.violations[1].examples] == [(0, -999.0), (2, 500.0)]
    error = refusal(report)
    assert list(error.details["violations"][2]["examples"]) == [{"row": 1, "value": "XXX"}]
    assert "2 more laws are broken" in error.detail


@pytest.mark.parametrize(
    ("law", "path"),
    [
        (InRange(column="wind", low=0), "$.expectations[0]"),
        (InRange(column="origin", low=0), "$.expectations[0]"),
        (InRange(column="temp"), "$.expectations[0].low"),
        (InRange(column="temp", low=2, high=1), "$.expectations[0].low"),
        (NotNull(column="temp", max_missing_ratio=1.5), "$.expectations[0].max_missing_ratio"),
        (InSet(column="temp", values=()), "$.expectations[0].values"),
        (Unique(columns=()), "$.expectations[0].columns"),
        (Fresh(column="temp", max_age_s=5), "$.expectations[0]"),
        (Matches(column="seats", pattern="x"), "$.expectations[0]"),
        (Compare(left="origin", operator="<", right="seats"), "$.expectations[0]"),
    ],
)
def test_a_law_that_cannot_be_meant_is_refused(law, path):
    with pytest.raises(InvalidInput) as caught:
        check_expectations((law,), SCHEMA)
    assert caught.value.path == path


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(InvalidInput) as caught:
        check_patterns((RowCount(), Matches(column="origin", pattern="((")))
    assert caught.value.path == "$.expectations[1].pattern"


NUMBERS = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=60)


@given(NUMBERS, st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=60))
def test_what_was_inferred_holds_for_what_it_was_inferred_from(numbers, texts):
    size = min(len(numbers), len(texts))
    frame = pl.DataFrame({"x": numbers[:size], "s": texts[:size]}, schema={"x": pl.Float64, "s": pl.String})
    laws = infer_expectations(frame)
    check_expectations(laws, schema_of(frame))
    assert validate(frame, schema_of(frame), laws, now_ms=0).passed


def test_what_was_inferred_refuses_a_feed_that_broke():
    good = pl.DataFrame({"temp": [float(x % 40) + 30 for x in range(2_000)], "origin": ["EWR", "JFK"] * 1_000})
    laws = infer_expectations(good)
    for bad in (
        good.with_columns(temp=pl.lit(None, pl.Float64)),
        good.with_columns(temp=pl.col("temp") * 100),
        good.with_columns(origin=pl.lit("???")),
    ):
        assert not validate(bad, schema_of(good), laws, now_ms=0).passed


@given(NUMBERS)
def test_a_profile_counts_right(numbers):
    series = pl.Series("x", numbers, dtype=pl.Float64)
    found = profile_column(series)
    present = [value for value in numbers if value is not None]
    assert (found.rows, found.missing) == (len(numbers), len(numbers) - len(present))
    if present:
        assert (found.min, found.max) == (min(present), max(present))
        assert found.mean == pytest.approx(sum(present) / len(present), abs=1e-6)
        assert list(found.quantiles) == sorted(found.quantiles)
        assert found.histogram is not None
        assert sum(found.histogram.counts) == len(present)


def test_a_profile_of_text_and_odd_numbers():
    table = pl.DataFrame({"s": ["b", "a", "b", None], "x": [float("nan"), 1.0, float("inf"), None]})
    text, numbers = profile(table).columns
    assert [(top.value, top.count) for top in text.top] == [("b", 2), ("a", 1)]
    assert (numbers.not_finite, numbers.mean, numbers.missing) == (2, 1.0, 1)
