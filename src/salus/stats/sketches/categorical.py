"""Profile of a categorical column in bounded memory: heavy hitters, the rest, and how many distinct values.

Sources: J. Misra, D. Gries, "Finding repeated elements", 1982, merged as in P. Agarwal et al., "Mergeable
summaries", PODS 2012 (the same information as Space-Saving); P. Flajolet et al., "HyperLogLog",
2007, with the estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

CAPACITY = 256
INDEX_BITS = 11
REGISTERS = 1 << INDEX_BITS
HASH_BITS = 64 - INDEX_BITS


class CategoricalProfile(msgspec.Struct, frozen=True):
    """Counts of the most frequent of `n` values; at most `capacity` of them, 2 kB for the distinct count.

    Exact while at most `capacity` distinct values were seen (`undercount` is 0). After that a kept count
    may be too low by at most `undercount` <= n / (capacity + 1), and a value that is not kept occurred at
    most that often. `merge` of two profiles obeys the same bound for both streams together.

    >>> profile = CategoricalProfile().update(["JFK", "LGA", "JFK", None])
    >>> profile.counts, profile.missing, profile.other, round(profile.distinct())
    ({'JFK': 2, 'LGA': 1}, 1, 0, 2)
    """

    n: int = 0
    missing: int = 0
    capacity: int = CAPACITY
    undercount: int = 0
    counts: dict[str, int] = {}
    registers: bytes = bytes(REGISTERS)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")

    @property
    def other(self) -> int:
        """Rows that belong to no kept value (or to one, within `undercount`)."""
        return self.n - self.missing - sum(self.counts.values())

    @property
    def exact(self) -> bool:
        """Whether every count is exact."""
        return self.undercount == 0

    def update(self, values: Iterable[str | None]) -> CategoricalProfile:
        """The profile after `values`; None is a missing value."""
        tally = Counter(values)
        missing = tally.pop(None, 0)
        return self.update_counts({key: count for key, count in tally.items() if key is not None}, missing=missing)

    def update_counts(self, counts: Mapping[str, int], *, missing: int = 0) -> CategoricalProfile:
        """The profile after values already counted (a table engine does that faster)."""
        batch = CategoricalProfile(
            n=sum(counts.values()) + missing,
            missing=missing,
            capacity=self.capacity,
            counts=dict(counts),
            registers=_registers(counts),
        )
        return self.merge(batch)

    def merge(self, other: CategoricalProfile) -> CategoricalProfile:
        """The profile of both streams, at the smaller capacity."""
        capacity = min(self.capacity, other.capacity)
        counts = dict(self.counts)
        for key, count in other.counts.items():
            counts[key] = counts.get(key, 0) + count
        cut = 0
        if len(counts) > capacity:
            cut = sorted(counts.values(), reverse=True)[capacity]
            counts = {key: count - cut for key, count in counts.items() if count > cut}
        highest = np.maximum(
            np.frombuffer(self.registers, dtype=np.uint8), np.frombuffer(other.registers, dtype=np.uint8)
        )
        return CategoricalProfile(
            n=self.n + other.n,
            missing=self.missing + other.missing,
            capacity=capacity,
            undercount=self.undercount + other.undercount + cut,
            counts=counts,
            registers=highest.tobytes(),
        )

    def distinct(self) -> float:
        """How many distinct values: exact while `exact`, else estimated with a standard error of about 2.3
        %.
        """
        return float(len(self.counts)) if self.exact else _cardinality(self.registers)


def _registers(values: Iterable[str]) -> bytes:
    """Per register the longest run of leading zeros (plus one) among the hashes that fall into it."""
    digests = b"".join(
        hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest() for value in values
    )
    hashes = np.frombuffer(digests, dtype=">u8").astype(np.uint64)
    slots = (hashes >> np.uint64(HASH_BITS)).astype(np.intp)
    rest = hashes & np.uint64((1 << HASH_BITS) - 1)
    # frexp's exponent is the bit length of the (exactly representable, 53 bit) rest.
    runs = (HASH_BITS + 1 - np.frexp(rest.astype(np.float64))[1]).astype(np.uint8)
    registers = np.zeros(REGISTERS, dtype=np.uint8)
    np.maximum.at(registers, slots, runs)
    return registers.tobytes()


def _cardinality(registers: bytes) -> float:
    """Ertl's improved raw estimator (2017)."""
    histogram = np.bincount(np.frombuffer(registers, dtype=np.uint8), minlength=HASH_BITS + 2)
    weight = REGISTERS * _tau(1 - float(histogram[HASH_BITS + 1]) / REGISTERS)
    for run in range(HASH_BITS, 0, -1):
        weight = 0.5 * (weight + float(histogram[run]))
    weight += REGISTERS * _sigma(float(histogram[0]) / REGISTERS)
    return REGISTERS**2 / (2 * math.log(2) * weight)


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, total = 1.0, x
    while True:
        x *= x
        before = total
        total += x * y
        y += y
        if total == before:
            return total


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, total = 1.0, 1 - x
    while True:
        x = math.sqrt(x)
        before = total
        y *= 0.5
        total -= (1 - x) ** 2 * y
        if total == before:
            return total / 3
