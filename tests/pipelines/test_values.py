"""Values become bytes and come back the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from salus.kernel.errors import Corrupt, Denied
from salus.pipelines import values


class Score(msgspec.Struct, frozen=True):
    auc: float
    name: str


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    ref, content = values.encode(value)
    assert (ref.codec, ref.executable) == ("json", False)
    back = values.decode(ref, content)
    assert back == value
    assert type(back) is type(value)


def test_a_frame_is_parquet() -> None:
    frame = pl.DataFrame({"a": [1, None, 3], "b": ["x", "y", None]})
    for given_frame in (frame, frame.lazy()):
        ref, content = values.encode(given_frame)
        assert (ref.codec, ref.executable, ref.size_bytes) == ("parquet", False, len(content))
        assert_frame_equal(values.decode(ref, content), frame)


def test_an_array_is_npy() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    ref, content = values.encode(array)
    assert ref.codec == "npy"
    np.testing.assert_array_equal(values.decode(ref, content), array)


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        (b"\x00\xff", "bytes"),
        ((1, 2), "pickle"),
        ({1: "a"}, "pickle"),
        (float("inf"), "pickle"),
        (2**70, "pickle"),
        (Counter("aab"), "pickle"),
        (Score(auc=0.5, name="a"), "struct"),
        (np.float64(0.5), "pickle"),
    ],
)
def test_what_json_would_bend_takes_another_codec(value: Any, codec: str) -> None:
    ref, content = values.encode(value)
    assert ref.codec == codec
    back = values.decode(ref, content, run_code=True)
    assert back == value
    assert type(back) is type(value)


def test_a_pickle_is_not_read_where_code_must_not_run() -> None:
    ref, content = values.encode(Counter("aab"))
    assert ref.executable
    with pytest.raises(Denied, match="reading it runs code"):
        values.decode(ref, content)


def test_broken_bytes_are_corrupt() -> None:
    ref, content = values.encode(pl.DataFrame({"a": [1]}))
    with pytest.raises(Corrupt):
        values.decode(ref, content[:20])
    with pytest.raises(Corrupt, match="not known here"):
        values.decode(msgspec.structs.replace(ref, codec="unheard"), content)
