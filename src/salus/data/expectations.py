"""Expectations: what the rows of a dataset must obey, in a small closed language of tagged values.

Each is JSON with its `kind`: `{"kind": "in_range", "column": "temp", "low": -40, "high": 120}`. A missing
value breaks only `not_null`; the other laws speak of the values that are there.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Schema
from salus.kernel.structs import Value

Scalar: TypeAlias = str | int | float | bool
Operator = Literal["<", "<=", "==", "!=", ">=", ">"]


class NotNull(Value, tag_field="kind", tag="not_null"):
    """At most `max_missing_ratio` of the rows have no value in `column`."""

    column: str
    max_missing_ratio: float = 0.0


class InRange(Value, tag_field="kind", tag="in_range"):
    """Values lie in [low, high] (an end that is None is open); at most `max_outside_ratio` of them do not.

    The ends of a `time` column are milliseconds since 1970.
    """

    column: str
    low: float | None = None
    high: float | None = None
    max_outside_ratio: float = 0.0


class InSet(Value, tag_field="kind", tag="in_set"):
    """Values are among `values`; at most `max_outside_ratio` of them are not."""

    column: str
    values: tuple[Scalar, ...]
    max_outside_ratio: float = 0.0


class Matches(Value, tag_field="kind", tag="matches"):
    """The whole text matches `pattern` (Rust's regular expressions: linear time, no look-around)."""

    column: str
    pattern: str
    max_outside_ratio: float = 0.0


class Unique(Value, tag_field="kind", tag="unique"):
    """No two rows of a batch have the same values in `columns`."""

    columns: tuple[str, ...]


class RowCount(Value, tag_field="kind", tag="row_count"):
    """A batch has between `low` and `high` rows (None: any number)."""

    low: int = 1
    high: int | None = None


class Fresh(Value, tag_field="kind", tag="fresh"):
    """The newest value of the time column is at most `max_age_s` seconds old when the batch arrives."""

    column: str
    max_age_s: float


class Compare(Value, tag_field="kind", tag="compare"):
    """`left operator right` holds between two columns of a row; at most `max_outside_ratio` of the rows
    break it.
    """

    left: str
    operator: Operator
    right: str
    max_outside_ratio: float = 0.0


Expectation: TypeAlias = NotNull | InRange | InSet | Matches | Unique | RowCount | Fresh | Compare


def kind_of(expectation: Expectation) -> str:
    """The tag, as in JSON: `not_null`."""
    return str(expectation.__struct_config__.tag)


def columns_of(expectation: Expectation) -> tuple[str, ...]:
    """The columns that an expectation speaks of."""
    match expectation:
        case Unique(columns=columns):
            return columns
        case Compare(left=left, right=right):
            return (left, right)
        case RowCount():
            return ()
        case _:
            return (expectation.column,)


def law_of(expectation: Expectation) -> str:
    """The law in words.

    >>> law_of(InRange(column="temp", low=-40, high=120))
    'temp is between -40 and 120'
    """
    match expectation:
        case NotNull(column=column, max_missing_ratio=0.0):
            return f"{column} is never missing"
        case NotNull(column=column, max_missing_ratio=ratio):
            return f"{column} is missing in at most {ratio:.4g} of the rows"
        case InRange(column=column, low=low, high=high):
            return f"{column} is {_range(low, high)}{_tolerance(expectation.max_outside_ratio)}"
        case InSet(column=column, values=values):
            shown = ", ".join(repr(value) for value in values[:10]) + (", …" if len(values) > 10 else "")
            return f"{column} is one of {shown}{_tolerance(expectation.max_outside_ratio)}"
        case Matches(column=column, pattern=pattern):
            return f"{column} matches {pattern}{_tolerance(expectation.max_outside_ratio)}"
        case Unique(columns=columns):
            return f"{', '.join(columns)} is unique in a batch"
        case RowCount(low=low, high=high):
            return f"a batch has {_range(low, high)} rows"
        case Fresh(column=column, max_age_s=age):
            return f"the newest {column} is at most {age:g} s old"
        case Compare(left=left, operator=operator, right=right):
            return f"{left} {operator} {right}{_tolerance(expectation.max_outside_ratio)}"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"between {low:.15g} and {high:.15g}"
    if low is not None:
        return f"at least {low:.15g}"
    return "anything" if high is None else f"at most {high:.15g}"


def _tolerance(ratio: float) -> str:
    return f" (at most {ratio:.4g} of them are not)" if ratio else ""


_ORDERED = ("int", "float", "time")


def check_expectations(expectations: tuple[Expectation, ...], schema: Schema | None) -> None:
    """Refuses expectations that cannot be meant: unknown columns, impossible ranges, a law of another type.

    Raises:
        InvalidInput: `path` names the expectation (`$.expectations[2].low`).
    """
    for index, expectation in enumerate(expectations):
        path = f"$.expectations[{index}]"
        _check_ratio(expectation, path)
        _check_values(expectation, path)
        if schema is not None:
            _check_columns(expectation, schema, path)


def _check_ratio(expectation: Expectation, path: str) -> None:
    for name in ("max_missing_ratio", "max_outside_ratio"):
        ratio = getattr(expectation, name, 0.0)
        if not 0.0 <= ratio <= 1.0:
            raise InvalidInput(f"{name} must lie in [0, 1], got {ratio}", path=f"{path}.{name}")


def _check_values(expectation: Expectation, path: str) -> None:
    match expectation:
        case InRange(low=None, high=None):
            raise InvalidInput("a range needs a low or a high end", path=f"{path}.low")
        case InRange(low=low, high=high) | RowCount(low=low, high=high):
            if low is not None and high is not None and low > high:
                raise InvalidInput(f"low must be at most high, got {low} > {high}", path=f"{path}.low")
        case InSet(values=()):
            raise InvalidInput("a set needs at least one value", path=f"{path}.values")
        case Unique(columns=()):
            raise InvalidInput("unique needs at least one column", path=f"{path}.columns")
        case Fresh(max_age_s=age) if age <= 0:
            raise InvalidInput(f"max_age_s must be above 0, got {age}", path=f"{path}.max_age_s")
        case _:
            pass


def _check_columns(expectation: Expectation, schema: Schema, path: str) -> None:
    for name in columns_of(expectation):
        column = schema.get(name)
        if column is None:
            raise InvalidInput(
                f"the schema has no column {name!r}",
                path=path,
                remedy=f"Name one of: {', '.join(schema.names)}.",
            )
        needed = _lawful_types(expectation)
        if column.dtype not in needed:
            raise InvalidInput(
                f"{kind_of(expectation)} needs a column of type {' or '.join(needed)}, {name} is {column.dtype}",
                path=path,
            )
    if isinstance(expectation, Compare):
        _check_comparable(expectation, schema, path)


def _check_comparable(expectation: Compare, schema: Schema, path: str) -> None:
    types = [column.dtype for name in columns_of(expectation) if (column := schema.get(name))]
    if len(set(types)) > 1 and set(types) != {"int", "float"}:
        raise InvalidInput(
            f"{expectation.left} ({types[0]}) and {expectation.right} ({types[1]}) cannot be compared", path=path
        )


def _lawful_types(expectation: Expectation) -> tuple[str, ...]:
    match expectation:
        case InRange():
            return _ORDERED
        case Matches():
            return ("string",)
        case Fresh():
            return ("time",)
        case _:
            return (*_ORDERED, "string", "bool")
