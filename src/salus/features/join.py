"""The point-in-time join: for each row of a spine, the features that were known at its time. Pure.

The same law holds in serving (`salus.features.online`): never a value from the future, never one older than its time
to live; of two values for one event time, the one that was recorded later.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from salus.kernel.errors import InvalidInput

_ROW, _RANK, _SEEN, _EVENT = "__row", "__rank", "__seen", "__event"


def point_in_time_join(
    spine: pl.DataFrame,
    history: pl.DataFrame,
    keys: Sequence[str] | dict[str, str],
    spine_time: str,
    event_time: str,
    ttl_ms: int | None = None,
    *,
    created: str | None = None,
) -> pl.DataFrame:
    """`spine` with the columns of `history` that it lacks, in its own order and number of rows.

    Row by row: among the history's rows of the same keys with an event time at or before the spine's, the one with
    the newest event time (of equal ones, the last created; then the last in order); null where there is none or its
    age is above `ttl_ms`. A missing key matches nothing.

    Args:
        keys: columns of the same name on both sides, or the history's name to the spine's.
        spine_time, event_time: times (`Datetime`), or milliseconds since 1970 as integers.
        created: the history's column that says when a row became known. With it, a row that was not known yet at
            the spine's time counts as not there, although its event had happened.

    Cost: a sort of each side; O((n + m) log(n + m)).

    Raises:
        InvalidInput: a column is not there, a time is missing, or both sides have a column of one name.
    """
    by = dict(keys) if isinstance(keys, dict) else {name: name for name in keys}
    values = [name for name in history.columns if name not in {*by, event_time, created}]
    _check(spine, history, by, spine_time, event_time, created, values)
    ranked = _ranked(history, by, event_time, created)
    left = spine.select(
        *(_key(spine, ours).alias(f"__key_{index}") for index, ours in enumerate(by.values())),
        _ms(spine, spine_time).alias(_SEEN),
    ).with_row_index(_ROW)
    key_names = [f"__key_{index}" for index in range(len(by))]
    seen = ranked.select(*key_names, _SEEN, "__best").sort(_SEEN)
    best = left.sort(_SEEN).join_asof(seen, on=_SEEN, by=key_names, strategy="backward", check_sortedness=False)
    rows = ranked.select(pl.col(_RANK).alias("__best"), _EVENT, *values)
    found = best.join(rows, on="__best", how="left")
    if ttl_ms is not None:
        fresh = pl.col(_SEEN) - pl.col(_EVENT) <= ttl_ms
        found = found.with_columns(pl.when(fresh).then(pl.col(name)).alias(name) for name in values)
    return spine.hstack(found.sort(_ROW).select(values))


def _ranked(history: pl.DataFrame, by: dict[str, str], event_time: str, created: str | None) -> pl.DataFrame:
    """The history with a rank by (event time, created, order), and for each moment at which a row becomes visible
    the best rank of its key so far: what one would have picked then."""
    event = _ms(history, event_time).alias(_EVENT)
    known = [_ms(history, created).alias("__created")] if created else []
    ordered = history.with_columns(event, *known).sort(
        [_EVENT, *(["__created"] if created else [])], maintain_order=True
    )
    ordered = ordered.with_row_index(_RANK).with_columns(
        _key(history, theirs).alias(f"__key_{index}") for index, theirs in enumerate(by)
    )
    visible = pl.max_horizontal(_EVENT, "__created") if created else pl.col(_EVENT)
    key_names = [f"__key_{index}" for index in range(len(by))]
    ordered = ordered.with_columns(visible.alias(_SEEN)).sort([_SEEN, _RANK])
    return ordered.with_columns(pl.col(_RANK).cum_max().over(key_names).alias("__best"))


def _key(frame: pl.DataFrame, column: str) -> pl.Expr:
    family = dtype_family(frame.schema[column])
    widest = {"int": pl.Int64(), "string": pl.String()}
    return pl.col(column).cast(widest[family]) if family in widest else pl.col(column)


def _ms(frame: pl.DataFrame, column: str) -> pl.Expr:
    dtype = frame.schema[column]
    if isinstance(dtype, pl.Datetime):
        return pl.col(column).dt.timestamp("ms").cast(pl.Int64)
    if dtype.is_integer():
        return pl.col(column).cast(pl.Int64)
    raise InvalidInput(f"{column} must be a time or milliseconds since 1970, got the type {dtype}", path=f"$.{column}")


def _check(
    spine: pl.DataFrame,
    history: pl.DataFrame,
    by: dict[str, str],
    spine_time: str,
    event_time: str,
    created: str | None,
    values: list[str],
) -> None:
    if not by:
        raise InvalidInput("a join needs at least one key", path="$.keys")
    needed = ((spine, "spine", (*by.values(), spine_time)), (history, "history", (*by, event_time)))
    for frame, side, names in needed:
        for name in (*names, *([created] if created and side == "history" else [])):
            if name not in frame.columns:
                raise InvalidInput(f"the {side} has no column {name!r}", path=f"$.{side}.{name}")
    if created and history[created].null_count():
        raise InvalidInput(f"{created} is missing in a row of the history", path=f"$.history.{created}")
    for frame, side, name in ((spine, "spine", spine_time), (history, "history", event_time)):
        if frame[name].null_count():
            raise InvalidInput(
                f"{name} is missing in {frame[name].null_count():,} rows of the {side}",
                path=f"$.{side}.{name}",
                remedy="A row without a time has no past: drop it or give it one.",
            )
    for theirs, ours in by.items():
        if dtype_family(history.schema[theirs]) != dtype_family(spine.schema[ours]):
            raise InvalidInput(
                f"the key {theirs} is {history.schema[theirs]} in the history and {spine.schema[ours]} in the spine",
                path=f"$.spine.{ours}",
                remedy="Cast one of them.",
            )
    clash = [name for name in values if name in spine.columns]
    if clash:
        raise InvalidInput(
            f"the spine already has a column {clash[0]!r}",
            path=f"$.spine.{clash[0]}",
            remedy="Rename it, or leave that feature out.",
        )


def dtype_family(dtype: pl.DataType) -> str:
    """What may be compared with what: all integers are one family, all texts another."""
    if dtype.is_integer():
        return "int"
    return "string" if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else str(dtype)
