"""Features in the SDK: push rows, join them to a spine as of its times, look them up as serving does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from salus.data.tables import read_arrow, write_arrow
from salus.features.join import point_in_time_join
from salus.features.model import (
    CREATED_MS,
    FeatureService,
    FeatureView,
    OnlineRead,
    OnlineStatus,
    Pushed,
    PutService,
    PutView,
    ServiceView,
)
from salus.kernel.ids import new_id
from salus.kernel.schema import Column
from salus.kernel.structs import Record
from salus.sdk.frames import to_polars
from salus.sdk.session import Session, path

_PUSH_TIMEOUT_S = 600.0
_ASK_AGAIN_S = 0.02


class PushedRows(Record):
    """What a push brought. `online` says whether all data planes that were awake have it; None: nobody asked."""

    view: str
    rows: int
    online_rows: int
    cursor: int
    online: bool | None = None


class FeaturesClient:
    """What a program can do with features. Tables may be any dataframe that Narwhals knows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put_view(
        self,
        name: str,
        *,
        entity: str,
        keys: Sequence[str | Column],
        event_time: str,
        features: Sequence[Column],
        ttl_s: float | None = None,
        online_depth: int = 8,
        description: str = "",
    ) -> FeatureView:
        """Declares a view. A key that is only a name is of type string; see `FeatureView` for the rest."""
        body = PutView(
            entity=entity,
            keys=tuple(keys),
            event_time=event_time,
            features=tuple(features),
            ttl_s=ttl_s,
            online_depth=online_depth,
            description=description,
        )
        return self._session.call("PUT", path("features", "views", name), body=body, expect=FeatureView)

    def views(self) -> list[FeatureView]:
        """All views, by name."""
        return self._session.call("GET", path("features", "views"), expect=list[FeatureView])

    def view(self, name: str) -> FeatureView:
        """A view. Raises `NotFound`."""
        return self._session.call("GET", path("features", "views", name), expect=FeatureView)

    def push(
        self, view: str, frame: Any, *, wait_online_s: float | None = None, idempotency_key: str | None = None
    ) -> PushedRows:
        """Adds rows to a view: to its history and, of each key, the newest to the online state.

        Args:
            wait_online_s: return only when every data plane that was seen in the last ten seconds has the rows, or
                when so many seconds have passed; `online` of the result says which.
            idempotency_key: made once (`salus.kernel.ids.new_id`) by a caller who repeats a push that failed on the
                way: the rows are then added once.

        Raises:
            InvalidInput: the rows do not fit the view; `details` is the `ValidationReport`. Nothing is written.
        """
        raw = self._session.send(
            "POST",
            path("features", "views", view, "rows"),
            content=write_arrow(to_polars(frame)),
            headers={
                "Content-Type": "application/vnd.apache.arrow.file",
                "Idempotency-Key": idempotency_key or new_id("req"),
            },
            timeout_s=_PUSH_TIMEOUT_S,
        )
        pushed = msgspec.json.decode(raw, type=Pushed)
        online = None if wait_online_s is None else self.wait_online(pushed.cursor, wait_online_s)
        return PushedRows(**msgspec.structs.asdict(pushed), online=online)

    def wait_online(self, cursor: int, timeout_s: float) -> bool:
        """Whether all data planes that are awake have everything up to `cursor`; waits `timeout_s` for them."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.online_status()
            known = status.settled or bool(status.planes)
            if known and all(plane.cursor >= cursor for plane in status.planes):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_ASK_AGAIN_S)

    def online_status(self) -> OnlineStatus:
        """The newest cursor, and how far each data plane has read."""
        return self._session.call("GET", path("features", "online", "acknowledged"), expect=OnlineStatus)

    def history(self, view: str, *, from_ms: int | None = None, to_ms: int | None = None) -> pl.DataFrame:
        """A view's rows with an event time in [from_ms, to_ms], and `created_ms`, when each became known."""
        raw = self._session.send(
            "GET",
            path("features", "views", view, "history"),
            query={"from_ms": from_ms, "to_ms": to_ms},
            timeout_s=_PUSH_TIMEOUT_S,
        )
        return read_arrow(raw)

    def history_join(
        self,
        spine: Any,
        views: Sequence[str | ServiceView] | str,
        *,
        event_time: str = "event_time",
        known_at: bool = False,
    ) -> pl.DataFrame:
        """`spine` with the features that were known at each of its rows' times: what serving would have found.

        Args:
            spine: rows with the views' keys and a time.
            views: names of views (their keys are columns of the same names), or `ServiceView`s that choose features
                and map keys; or the name of a feature service.
            event_time: the spine's time column.
            known_at: leave out rows that reached Salus only after the spine's time, though their event was earlier.
        """
        table = to_polars(spine)
        wanted = list(self.service(views).views) if isinstance(views, str) else list(views)
        for item in wanted:
            chosen = ServiceView(view=item) if isinstance(item, str) else item
            table = self._joined(table, chosen, event_time, known_at=known_at)
        return table

    def online(
        self, view: str, keys: Sequence[Sequence[Any]], *, at_ms: int | None = None
    ) -> list[dict[str, Any] | None]:
        """For each key (its values in the view's order) the features that hold at `at_ms` (now), or None."""
        body = OnlineRead(view=view, keys=[list(key) for key in keys], at_ms=at_ms)
        return self._session.call(
            "POST", path("features", "online", "read"), body=body, expect=list[dict[str, Any] | None]
        )

    def put_service(self, name: str, views: Sequence[str | ServiceView], *, description: str = "") -> FeatureService:
        """Declares the features that a model is given."""
        chosen = tuple(ServiceView(view=view) if isinstance(view, str) else view for view in views)
        body = PutService(views=chosen, description=description)
        return self._session.call("PUT", path("features", "services", name), body=body, expect=FeatureService)

    def service(self, name: str) -> FeatureService:
        """A feature service. Raises `NotFound`."""
        return self._session.call("GET", path("features", "services", name), expect=FeatureService)

    def _joined(self, spine: pl.DataFrame, wanted: ServiceView, event_time: str, *, known_at: bool) -> pl.DataFrame:
        view = self.view(wanted.view)
        low, high = _span_ms(spine, event_time)
        if low is not None and view.ttl_ms is not None:
            low -= view.ttl_ms
        past = self.history(view.name, from_ms=low if view.ttl_ms is not None else None, to_ms=high)
        features = wanted.features or view.feature_names
        past = past.select(*view.key_names, view.event_time, *features, CREATED_MS)
        keys: Mapping[str, str] = {name: wanted.keys.get(name, name) for name in view.key_names}
        return point_in_time_join(
            spine,
            past if known_at else past.sort(CREATED_MS, maintain_order=True).drop(CREATED_MS),
            dict(keys),
            event_time,
            view.event_time,
            view.ttl_ms,
            created=CREATED_MS if known_at else None,
        )


def _span_ms(spine: pl.DataFrame, event_time: str) -> tuple[int | None, int | None]:
    if event_time not in spine.columns:
        return None, None
    times = spine[event_time]
    moments = times.dt.timestamp("ms") if isinstance(times.dtype, pl.Datetime) else times
    low, high = moments.min(), moments.max()
    return (low, high) if isinstance(low, int) and isinstance(high, int) else (None, None)
