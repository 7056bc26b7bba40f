"""Who carries it: the columns that moved the ground, the part of the rows whose loss is not as expected. Pure.

Sources: S. Athey, G. Imbens, Recursive partitioning for heterogeneous causal effects, 2016 (a tree grown on one half of
the rows and measured on the other keeps its intervals honest); E. Kitagawa, Components of a difference between two
rates, 1955 (the share of a change that a change of composition carries).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.kernel.schema import Signature
from salus.monitoring.columns import KIND_OF, ColumnProfile, numbers, texts
from salus.monitoring.model.diagnoses import ColumnShare, Segment
from salus.monitoring.model.windows import Movement
from salus.monitoring.rows import Numbers, Rows
from salus.stats.intervals import mean_interval

_DEPTH = 2
_FEWEST = 60
_CUTS = (0.1, 0.25, 0.5, 0.75, 0.9)
_CATEGORIES = 12
_LEVEL = 0.95
_LEAST_Z = 3.0

Mask = NDArray[np.bool_]


class Cut(msgspec.Struct, frozen=True):
    """One side of a question about a column."""

    column: str
    rule: str
    mask: Mask


def segments_of(rows: Rows, signature: Signature, *, most: int = 3, seed: int = 0) -> tuple[Segment, ...]:
    """The parts of the rows with the largest excess of realised over expected loss, the worst first.

    A shallow tree finds a part on one half of the rows; its excess is measured on the other half, and a part whose
    interval there reaches zero is not told. Empty below 240 rows.
    """
    if len(rows) < 4 * _FEWEST:
        return ()
    cuts = _cuts(rows.frame, signature)
    residual = rows.residual
    searched = np.random.default_rng(seed).permutation(len(rows)) % 2 == 0
    open_rows = np.ones(len(rows), dtype=np.bool_)
    found: list[Segment] = []
    for _ in range(most):
        path = _worst(residual, cuts, searched & open_rows)
        if not path:
            break
        part = np.logical_and.reduce([cut.mask for cut in path])
        measured = part & ~searched
        if int(measured.sum()) < _FEWEST // 2:
            break
        excess = mean_interval(residual[measured], _LEVEL)
        if excess.low <= 0:
            break
        found.append(
            Segment(
                rule=" and ".join(cut.rule for cut in path),
                columns=tuple(dict.fromkeys(cut.column for cut in path)),
                rows_ratio=float(part.mean()),
                excess=excess,
            )
        )
        open_rows &= ~part
    return tuple(found)


def _worst(residual: Numbers, cuts: Sequence[Cut], inside: Mask) -> list[Cut]:
    """The path of at most two cuts to the part whose mean stands out most from the rest."""
    path: list[Cut] = []
    part = inside
    for _ in range(_DEPTH):
        best, chosen = _LEAST_Z, None
        for cut in cuts:
            score = _stands_out(residual, part & cut.mask, part & ~cut.mask)
            if score > best:
                best, chosen = score, cut
        if chosen is None:
            break
        path.append(chosen)
        part = part & chosen.mask
    return path


def _stands_out(residual: Numbers, part: Mask, rest: Mask) -> float:
    n, m = int(part.sum()), int(rest.sum())
    if n < _FEWEST // 2 or m < _FEWEST // 2:
        return 0.0
    first, second = residual[part], residual[rest]
    error = float(np.sqrt(first.var() / n + second.var() / m))
    return float(first.mean() - second.mean()) / error if error else 0.0


def _cuts(frame: pl.DataFrame, signature: Signature) -> list[Cut]:
    cuts: list[Cut] = []
    for column in signature.inputs.columns:
        name = f"in.{column.name}"
        kind = KIND_OF[column.dtype]
        if name not in frame.columns or kind == "time":
            continue
        cuts += _numeric_cuts(column.name, frame[name]) if kind == "numeric" else _text_cuts(column.name, frame[name])
    return cuts


def _numeric_cuts(column: str, series: pl.Series) -> list[Cut]:
    values = numbers(series)
    missing = np.isnan(values)
    cuts = []
    if missing.any():
        cuts += [Cut(column, f"{column} is missing", missing)]
    if missing.all():
        return cuts
    for edge in np.unique(np.quantile(values[~missing], _CUTS)):
        with np.errstate(invalid="ignore"):
            cuts.append(Cut(column, f"{column} <= {edge:.4g}", values <= edge))
            cuts.append(Cut(column, f"{column} > {edge:.4g}", values > edge))
    return cuts


def _text_cuts(column: str, series: pl.Series) -> list[Cut]:
    values = texts(series)
    common = values.drop_nulls().value_counts(sort=True).head(_CATEGORIES)
    cuts = [
        Cut(column, f"{column} = {value}", (values == value).fill_null(value=False).to_numpy())
        for value in common[common.columns[0]].to_list()
    ]
    if values.null_count():
        cuts.append(Cut(column, f"{column} is missing", values.is_null().to_numpy()))
    return cuts


def column_shares(
    reference: Rows, now: Rows, profiles: Sequence[ColumnProfile], movements: Sequence[Movement], *, most: int = 3
) -> tuple[ColumnShare, ...]:
    """What each column's own movement makes of the expected loss, the largest first: its cells' shares now against the
    reference's, times the reference's expected loss in the cell. Columns that move together share what they carry."""
    moved = {movement.column: movement for movement in movements}
    found = []
    for profile in profiles:
        name = f"in.{profile.name}"
        if profile.kind == "time" or profile.name not in moved or name not in reference.frame.columns:
            continue
        before, after = _cells(reference.frame[name], profile), _cells(now.frame[name], profile)
        size = max(int(before.max(initial=0)), int(after.max(initial=0))) + 1
        held = np.bincount(before, minlength=size)
        mean = float(reference.expected.mean())
        total = np.bincount(before, weights=reference.expected, minlength=size)
        loss = np.where(held > 0, total / np.maximum(held, 1), mean)
        change = np.bincount(after, minlength=size) / len(now) - held / len(reference)
        movement = moved[profile.name]
        found.append(
            ColumnShare(
                column=profile.name,
                share=float(change @ loss),
                distance=movement.distance,
                unit=movement.unit,
            )
        )
    return tuple(sorted(found, key=lambda share: -abs(share.share))[:most])


def _cells(series: pl.Series, profile: ColumnProfile) -> NDArray[np.intp]:
    if profile.kind == "categorical":
        place = {value: index for index, value in enumerate(profile.categories)}
        other = len(place)
        codes = [other + 1 if value is None else place.get(value, other) for value in texts(series).to_list()]
        return np.array(codes, dtype=np.intp)
    values = numbers(series)
    edges = np.array(profile.edges)
    missing = len(edges) + 1
    return np.where(np.isnan(values), missing, np.searchsorted(edges, values, side="right")).astype(np.intp)
