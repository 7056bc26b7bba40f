"""Where a set of accepted values ends: bisection that errs to the outside."""

from __future__ import annotations

from collections.abc import Callable

STEPS = 48


def boundary(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """The end of {x: excess(x) <= 0} between `inside` (in the set) and `outside`, rounded away from `inside`.

    The set must be an interval; `outside` itself is returned when it belongs to the set.

    >>> round(boundary(lambda x: x * x - 2, 0.0, 2.0), 6)
    1.414214
    """
    if excess(outside) <= 0:
        return outside
    accepted, rejected = inside, outside
    for _ in range(STEPS):
        middle = (accepted + rejected) / 2
        if excess(middle) <= 0:
            accepted = middle
        else:
            rejected = middle
    return rejected
