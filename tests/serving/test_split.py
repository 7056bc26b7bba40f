"""The split: sticky, exact, and moving as few keys as can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.kernel.errors import InvalidInput
from salus.serving.split import check_split, choose, unit
from salus.serving.wire import Weight

KEYS = [f"key-{index}" for index in range(20_000)]


def split(**shares: float) -> tuple[Weight, ...]:
    return tuple(Weight(revision=name, share=share) for name, share in shares.items())


@given(st.text(), st.text(max_size=20))
def test_a_key_stays_where_it_is(key: str, salt: str) -> None:
    two = split(a=0.7, b=0.3)
    assert choose(two, key, salt=salt) == choose(two[::-1], key, salt=salt)
    assert 0 < unit(salt, "a", key) < 1


@pytest.mark.parametrize("shares", [{"a": 0.95, "b": 0.05}, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.999, "b": 0.001}])
def test_shares_are_exact(shares: dict[str, float]) -> None:
    weights = split(**shares)
    got = [choose(weights, key, salt="s") for key in KEYS]
    for name, share in shares.items():
        deviation = math.sqrt(share * (1 - share) / len(KEYS))
        assert abs(got.count(name) / len(KEYS) - share) < 4.5 * deviation


@settings(max_examples=30)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.text(max_size=5))
def test_a_growing_canary_keeps_its_keys(one: float, other: float, salt: str) -> None:
    low, high = sorted((one, other))
    before, after = split(a=1 - low, b=low), split(b=high, a=1 - high)
    for key in KEYS[:500]:
        if low > 0 and choose(before, key, salt=salt) == "b":
            assert choose(after, key, salt=salt) == "b"


def test_a_third_revision_takes_keys_and_shuffles_none() -> None:
    before, after = split(a=0.5, b=0.5), split(a=0.4, b=0.4, c=0.2)
    for key in KEYS[:5_000]:
        now = choose(after, key)
        assert now in (choose(before, key), "c")


def test_salts_deal_independently() -> None:
    half = split(a=0.5, b=0.5)
    same = sum(choose(half, key, salt="x") == choose(half, key, salt="y") for key in KEYS)
    assert abs(same / len(KEYS) - 0.5) < 0.02


def test_no_share_gets_nothing() -> None:
    assert {choose(split(a=1.0, b=0.0), key) for key in KEYS[:1_000]} == {"a"}
    with pytest.raises(InvalidInput, match="no revision"):
        choose(split(a=0.0), "k")


@pytest.mark.parametrize(
    ("weights", "path"),
    [
        ((), "$.split"),
        (split(a=0.7, b=0.2), "$.split"),
        (split(a=1.5, b=-0.5), "$.split[0].share"),
        (split(a=math.nan), "$.split[0].share"),
        (split(a=0.5) + split(a=0.5), "$.split"),
    ],
)
def test_a_split_that_is_not_a_whole_is_refused(weights: tuple[Weight, ...], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_split(weights)
    assert caught.value.path == path
