"""Which revision answers a request: the same for the same key, in exact shares, with the fewest changes of mind.

Pure: no clock, no randomness. Two data planes with the same route table send a key to the same revision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from salus.kernel.errors import InvalidInput
from salus.serving.wire import Weight

_SCALE = 2.0**-64
_TOLERANCE = 1e-6


def unit(salt: str, revision: str, key: str) -> float:
    """A number in (0, 1) that looks random over keys and is always the same for the same three strings.

    >>> unit("", "rev_a", "UA1545") == unit("", "rev_a", "UA1545")
    True
    """
    word = blake2b(f"{salt}\0{revision}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(word, "big") + 0.5) * _SCALE


def choose(split: Sequence[Weight], key: str, *, salt: str = "") -> str:
    """The revision that answers requests with `key`.

    Each revision gets its share of the keys, exactly in expectation. When shares change, keys move only
    towards revisions whose share grew relative to the one they leave: a canary that grows keeps every key it
    has, whatever the order of `split`. A share of 0 gets nothing. Another `salt` deals anew.

    Source: weighted rendezvous hashing; D. G. Thaler and C. V. Ravishankar, Using name-based mappings to
    increase hit rates, IEEE/ACM Transactions on Networking 6(1), 1998; the logarithmic method of
    C. Schindelhauer and G. Schomaker, Weighted distributed hash tables, SPAA 2005.

    Raises:
        InvalidInput: no revision has a share above 0.

    >>> split = (Weight(revision="rev_a", share=0.95), Weight(revision="rev_b", share=0.05))
    >>> choose(split, "UA1545") == choose(split[::-1], "UA1545")
    True
    """
    if len(split) == 1 and split[0].share > 0:
        return split[0].revision
    best, least = "", math.inf
    for weight in split:
        if weight.share > 0:
            cost = -math.log(unit(salt, weight.revision, key)) / weight.share
            if cost < least:
                best, least = weight.revision, cost
    if not best:
        raise InvalidInput(
            "no revision has a share of the requests", path="$.split", remedy="Give one a share above 0."
        )
    return best


def check_split(split: Sequence[Weight], path: str = "$.split") -> None:
    """Refuses a split that is not a whole.

    Raises:
        InvalidInput: empty, a revision twice, a share outside 0 to 1, or a sum that is not 1.

    >>> check_split([Weight(revision="rev_a", share=1.0)])
    """
    names = [weight.revision for weight in split]
    if len(set(names)) != len(names):
        raise InvalidInput(f"a revision may stand once in a split, got {', '.join(names)}", path=path)
    for index, weight in enumerate(split):
        if not 0 <= weight.share <= 1:
            raise InvalidInput(f"a share is between 0 and 1, got {weight.share}", path=f"{path}[{index}].share")
    total = math.fsum(weight.share for weight in split)
    if abs(total - 1) > _TOLERANCE:
        shares = " + ".join(f"{weight.share:g}" for weight in split) or "nothing"
        raise InvalidInput(f"shares must sum to 1, got {shares} = {total:g}", path=path)
