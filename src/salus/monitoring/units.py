"""Changes of units: which conversion turns the values of now into those of before. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus.kernel.structs import Record
from salus.monitoring.columns import Numbers, distance, is_known

PLACEBOS = (0.9271, 1.0371, 1.1413, 1.3717)
"""Factors that convert nothing: where they explain values, too, the known values lie too densely to tell."""
_FEWEST = 20
_RESTORED = 0.9
_BY_CHANCE = 0.5
_DISTINCT = 3


class Conversion(Record):
    """`new = factor * old + offset`; `name` reads old unit -> new unit."""

    name: str
    factor: float
    offset: float = 0.0

    def back(self, values: Numbers) -> Numbers:
        """New values in the old unit."""
        return (values - self.offset) / self.factor


def _both_ways(first: str, second: str, factor: float) -> tuple[Conversion, Conversion]:
    return (
        Conversion(name=f"{first} -> {second}", factor=factor),
        Conversion(name=f"{second} -> {first}", factor=1 / factor),
    )


CONVERSIONS: tuple[Conversion, ...] = (
    Conversion(name="°F -> °C", factor=5 / 9, offset=-160 / 9),
    Conversion(name="°C -> °F", factor=9 / 5, offset=32.0),
    Conversion(name="°C -> K", factor=1.0, offset=273.15),
    Conversion(name="K -> °C", factor=1.0, offset=-273.15),
    *_both_ways("mph", "m/s", 0.44704),
    *_both_ways("km/h", "m/s", 1 / 3.6),
    *_both_ways("kn", "m/s", 1852 / 3600),
    *_both_ways("mile (or mph)", "km (or km/h)", 1.609344),
    *_both_ways("mph", "kn", 1609.344 / 1852),
    *_both_ways("km/h", "kn", 1 / 1.852),
    *_both_ways("mile", "metre", 1609.344),
    *_both_ways("inHg", "hPa", 33.8639),
    *_both_ways("inch", "mm", 25.4),
    *_both_ways("inch", "cm", 2.54),
    *_both_ways("foot", "metre", 0.3048),
    *_both_ways("lb", "kg", 0.45359237),
    *_both_ways("minute", "second (or hour to minute)", 60.0),
    *_both_ways("hour", "second", 3600.0),
    *_both_ways("day", "hour", 24.0),
    *_both_ways("x", "10 x", 10.0),
    *_both_ways("x", "100 x (ratio to percent)", 100.0),
    *_both_ways("x", "1000 x (s to ms, km to m)", 1000.0),
)


def by_values(values: Numbers, known: frozenset[float | str], common: Sequence[float]) -> Conversion | None:
    """The conversion that turns values never seen before (numbers, no NaN) into known ones, at least nine in ten.

    Works where a column has few distinct values, also when only a part of the rows is converted. Fewer than three
    strange values could fit by chance: they must become `common` ones. None where no conversion does, or where known
    values lie so densely that any factor would.
    """
    strange = values[~is_known(values, known) & (values != 0.0)]
    if len(strange) < _FEWEST:
        return None
    if len(np.unique(strange)) < _DISTINCT:
        known = frozenset(value for value in common if value)
    elif max(float(is_known(strange / factor, known).mean()) for factor in PLACEBOS) > _BY_CHANCE:
        return None
    fits = [(float(is_known(way.back(strange), known).mean()), way) for way in CONVERSIONS]
    best, way = max(fits, key=lambda fit: fit[0])
    return way if best >= _RESTORED else None


def by_shape(now: Numbers, before: Numbers, spread: float, usual: float) -> Conversion | None:
    """The conversion after which the quantiles of `now` (at `LEVELS`) are those of `before`.

    They must then lie within a `usual` step of each other (a distance in units of `spread`), a tenth of what they lie
    apart without it, and be as wide: what shrinks to a point fits everywhere.
    """
    apart, width = distance(now, before, spread), _width(before)
    fits = [
        (distance(way.back(now), before, spread), way)
        for way in CONVERSIONS
        if width > 0 and 0.5 <= _width(way.back(now)) / width <= 2.0
    ]
    if not fits:
        return None
    best, way = min(fits, key=lambda fit: fit[0])
    return way if best <= min(max(usual, 0.05), apart / 10) else None


def _width(quantiles: Numbers) -> float:
    return float(quantiles[-3] - quantiles[2])


def example(way: Conversion, values: Numbers) -> str:
    """What the conversion does to the middle one of sorted values: `what was 9.2 comes as 4.1`."""
    middle = float(values[len(values) // 2])
    return f"what was {float(way.back(np.array([middle]))[0]):.4g} comes as {middle:.4g}"
