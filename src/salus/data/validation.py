"""Validation: a batch against its schema and expectations, before anything is written. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import polars as pl

from salus.data.expectations import (
    Compare,
    Expectation,
    Fresh,
    InRange,
    InSet,
    Matches,
    NotNull,
    RowCount,
    Unique,
    columns_of,
    kind_of,
    law_of,
)
from salus.data.model import Example, ValidationReport, Violation
from salus.data.tables import EARLIEST_MS, LATEST_MS, POLARS_TYPES, accepts, cast, dtype_of
from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Schema

EXAMPLES = 5


def validate(
    frame: pl.DataFrame,
    schema: Schema,
    expectations: Sequence[Expectation] = (),
    *,
    now_ms: int,
    dataset: str = "",
) -> ValidationReport:
    """Checks every law and reports all that are broken, the schema's first.

    A law about a column that is missing or of a wrong type is not checked: the report names that already.
    A float must be finite: what is missing is null, never NaN.

    >>> schema = Schema(columns=(Column(name="temp", dtype="float"),))
    >>> report = validate(
    ...     pl.DataFrame({"temp": [20.0, 451.0]}),
    ...     schema,
    ...     [InRange(column="temp", low=-40, high=120)],
    ...     now_ms=0,
    ... )
    >>> report.violations[0].law, report.violations[0].count, report.violations[0].examples[0].value
    ('temp is between -40 and 120', 1, 451.0)
    """
    violations = list(_schema_violations(frame, schema))
    sound = [column for column in schema.columns if _is_sound(frame, column)]
    typed = frame.select(cast(frame[column.name], column.dtype) for column in sound)
    violations += [found for column in sound if (found := _not_finite(typed[column.name])) is not None]
    violations += [found for column in sound if (found := _no_time(typed[column.name])) is not None]
    for expectation in expectations:
        if all(name in typed.columns for name in columns_of(expectation)):
            found = _check(typed, frame.height, expectation, now_ms)
            if found is not None:
                violations.append(found)
    checked = 2 * len(schema.columns) + len(expectations)
    return ValidationReport(dataset=dataset, rows=frame.height, checked=checked, violations=tuple(violations))


def check_patterns(expectations: Sequence[Expectation]) -> None:
    """Refuses patterns that are no regular expressions. Raises `InvalidInput`."""
    for index, expectation in enumerate(expectations):
        if not isinstance(expectation, Matches):
            continue
        try:
            pl.Series([""]).str.contains(_whole(expectation.pattern))
        except pl.exceptions.PolarsError as error:
            raise InvalidInput(
                f"the pattern is no regular expression: {str(error)[:300]}",
                path=f"$.expectations[{index}].pattern",
                remedy="Use Rust's syntax: no look-around, no back-references.",
            ) from error


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def refusal(report: ValidationReport) -> InvalidInput:
    """The error that a failed report is: its `details` are the report."""
    first = report.violations[0]
    more = len(report.violations) - 1
    also = f", and {more} more {'law is' if more == 1 else 'laws are'} broken" if more else ""
    of = f" of {report.dataset}" if report.dataset else ""
    return InvalidInput(
        f"the batch breaks the law{of} that {first.law}: {first.observed}{also}",
        path=f"$.{first.column}" if first.column else "$",
        remedy="Nothing was written. Mend the rows that the report names, or change what the dataset expects.",
        details=msgspec.to_builtins(report),
    )


def _schema_violations(frame: pl.DataFrame, schema: Schema) -> Iterator[Violation]:
    for name in frame.columns:
        if schema.get(name) is None:
            law = f"the columns are {', '.join(schema.names)}"
            yield _violation("unknown_column", name, law, f"{name} is unknown", frame.height)
    for column in schema.columns:
        if column.name not in frame.columns:
            law = f"there is a column {column.name} of type {column.dtype}"
            yield _violation("missing_column", column.name, law, "it is not there", frame.height)
            continue
        series = frame[column.name]
        if not accepts(column.dtype, series.dtype):
            yield _wrong_type(series, column)
        elif not column.nullable and series.null_count():
            law = f"{column.name} is never missing"
            yield _of_mask(series.is_null(), series, "not_null", law)
        elif not _is_sound(frame, column):
            law = f"{column.name} fits the type {column.dtype}"
            yield _violation("wrong_type", column.name, law, f"a {series.dtype} does not fit", series.len())


def _wrong_type(series: pl.Series, column: Column) -> Violation:
    law = f"{column.name} has the type {column.dtype}"
    present = series.drop_nulls()
    known = dtype_of(series.dtype) or str(series.dtype)
    examples = tuple(
        Example(row=int(row), value=plain(series[int(row)])) for row in series.is_not_null().arg_true().head(EXAMPLES)
    )
    return _violation("wrong_type", column.name, law, f"got the type {known}", present.len(), examples)


def _is_sound(frame: pl.DataFrame, column: Column) -> bool:
    if column.name not in frame.columns or not accepts(column.dtype, frame.schema[column.name]):
        return False
    try:
        cast(frame[column.name], column.dtype)
    except InvalidInput:
        return False
    return True


def _not_finite(series: pl.Series) -> Violation | None:
    if not series.dtype.is_float():
        return None
    broken = ~series.is_finite().fill_null(True)
    if not broken.any():
        return None
    return _of_mask(broken, series, "finite", f"{series.name} is a finite number or missing")


def _no_time(series: pl.Series) -> Violation | None:
    if not isinstance(series.dtype, pl.Datetime):
        return None
    moments = series.to_physical()
    broken = ~moments.is_between(EARLIEST_MS, LATEST_MS).fill_null(True)
    if not broken.any():
        return None
    return _of_mask(broken, moments, "time", f"{series.name} is a time in the years 1 to 9999 or missing")


def _check(frame: pl.DataFrame, rows: int, expectation: Expectation, now_ms: int) -> Violation | None:
    match expectation:
        case RowCount(low=low, high=high):
            if low <= rows <= (rows if high is None else high):
                return None
            return _violation("row_count", None, law_of(expectation), f"it has {rows}", rows)
        case Fresh(column=column, max_age_s=age):
            return _check_fresh(frame[column], age, now_ms, law_of(expectation))
        case Unique(columns=columns):
            broken = frame.select(pl.struct(columns).is_duplicated()).to_series()
            values = frame.select(pl.struct(columns)).to_series() if len(columns) > 1 else frame[columns[0]]
            return _tolerated(broken, values, expectation, columns[0], 0.0, rows)
        case NotNull(column=column, max_missing_ratio=ratio):
            return _tolerated(frame[column].is_null(), frame[column], expectation, column, ratio, rows)
        case Compare(left=left, operator=operator, right=right, max_outside_ratio=ratio):
            broken = _compare(frame, left, operator, right)
            both = frame.select(pl.struct(left, right)).to_series()
            return _tolerated(broken, both, expectation, left, ratio, rows)
        case _:
            series = frame[expectation.column]
            broken = _outside(series, expectation)
            present = rows - series.null_count()
            return _tolerated(broken, series, expectation, series.name, expectation.max_outside_ratio, present)


def _outside(series: pl.Series, expectation: InRange | InSet | Matches) -> pl.Series:
    """Which values break a law about single values; what is missing breaks none."""
    match expectation:
        case InRange(low=low, high=high):
            value = pl.col(series.name)
            value = value.dt.timestamp("ms") if series.dtype == POLARS_TYPES["time"] else value
            inside = pl.lit(True)
            inside = inside & (value >= low) if low is not None else inside
            inside = inside & (value <= high) if high is not None else inside
        case InSet(values=values):
            inside = _in_set(series, values)
        case Matches(pattern=pattern):
            inside = pl.col(series.name).str.contains(_whole(pattern))
    return series.to_frame().select(~inside.fill_null(True)).to_series()


def _in_set(series: pl.Series, values: Sequence[Any]) -> pl.Expr:
    column = pl.col(series.name)
    if series.dtype == POLARS_TYPES["time"]:
        column = column.dt.timestamp("ms")
    numeric = not isinstance(series.dtype, pl.String | pl.Boolean)
    if isinstance(series.dtype, pl.String):
        lawful = [value for value in values if isinstance(value, str)]
        return column.is_in(pl.Series(lawful, dtype=pl.String).implode())
    if numeric:
        numbers = [float(value) for value in values if not isinstance(value, str | bool)]
        return column.cast(pl.Float64).is_in(pl.Series(numbers, dtype=pl.Float64).implode())
    truths = [value for value in values if isinstance(value, bool)]
    return column.is_in(pl.Series(truths, dtype=pl.Boolean).implode())


def _compare(frame: pl.DataFrame, left: str, operator: str, right: str) -> pl.Series:
    a, b = pl.col(left), pl.col(right)
    holds = {"<": a < b, "<=": a <= b, "==": a == b, "!=": a != b, ">=": a >= b, ">": a > b}[operator]
    return frame.select(~holds.fill_null(True)).to_series()


def _check_fresh(series: pl.Series, max_age_s: float, now_ms: int, law: str) -> Violation | None:
    newest = series.dt.timestamp("ms").max()
    if isinstance(newest, int) and newest >= now_ms - max_age_s * 1000:
        return None
    observed = "it has no value" if newest is None else f"it is {iso(int(newest))}"  # type: ignore[arg-type]
    return _violation("fresh", series.name, law, observed, series.len())


def _tolerated(
    broken: pl.Series, values: pl.Series, expectation: Expectation, column: str, max_ratio: float, of: int
) -> Violation | None:
    """The violation, unless at most `max_ratio` of `of` rows break the law."""
    count = int(broken.sum())
    if count == 0 or count <= max_ratio * of:
        return None
    return _of_mask(broken, values, kind_of(expectation), law_of(expectation), column=column, of=of)


def _of_mask(
    broken: pl.Series,
    values: pl.Series,
    rule: str,
    law: str,
    *,
    column: str | None = None,
    of: int | None = None,
) -> Violation:
    count, total = int(broken.sum()), broken.len() if of is None else of
    examples = tuple(Example(row=int(row), value=plain(values[int(row)])) for row in broken.arg_true().head(EXAMPLES))
    observed = f"{count:,} of {total:,} rows break it ({count / max(total, 1):.2%})"
    return _violation(rule, column or values.name, law, observed, count, examples)


def _violation(
    rule: str, column: str | None, law: str, observed: str, count: int, examples: tuple[Example, ...] = ()
) -> Violation:
    return Violation(rule=rule, column=column, law=law, observed=observed, count=count, examples=examples)


def plain(value: Any) -> Any:
    """A cell as JSON can hold it: times in ISO 8601, NaN and infinities as text, all else that is foreign
    as text.

    >>> plain(float("nan")), plain(3), plain({"a": float("inf")})
    ('nan', 3, {'a': 'inf'})
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value[:200] if isinstance(value, str) else value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)[:200]
