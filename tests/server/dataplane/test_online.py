"""Online features as of a moment: never from the future, never too old, as many as the view keeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from salus.features.model import OnlineChanges, OnlineRow, entity_key
from salus.server.dataplane.online import OnlineFeatures

KEY = entity_key(["JFK"])


def changes(moments: list[int], depth: int) -> OnlineChanges:
    rows = [OnlineRow(view="weather", key=["JFK"], event_ms=at, values={"at": at}) for at in moments]
    return OnlineChanges(cursor=len(rows), rows=rows, depths={"weather": depth})


@given(st.lists(st.integers(0, 1_000)), st.integers(0, 1_100), st.integers(1, 50), st.integers(0, 300))
def test_a_look_up_finds_what_a_naive_search_finds(moments: list[int], at: int, depth: int, ttl_ms: int) -> None:
    online = OnlineFeatures()
    online.apply(changes(moments, depth))
    kept = sorted(set(moments))[-depth:]
    lawful = [moment for moment in kept if moment <= at]
    wanted = lawful[-1] if lawful and at - lawful[-1] <= ttl_ms else None
    found = online.find("weather", KEY, at, ttl_ms / 1_000)
    assert (None if found is None else found["at"]) == wanted


def test_unknown_views_and_keys_have_nothing() -> None:
    online = OnlineFeatures()
    assert online.find("weather", KEY, 0, None) is None
    online.apply(changes([1], 8))
    assert online.find("weather", entity_key(["EWR"]), 5, None) is None
