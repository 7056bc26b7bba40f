"""How the data plane is: ready or not, its report to the control plane, its gauges for Prometheus."""

from __future__ import annotations

from salus.server.dataplane.counters import Counters
from salus.server.dataplane.routes_client import Loop, OnlineClient, RoutesClient
from salus.server.dataplane.shipper import Shipper
from salus.server.dataplane.spool import Spool
from salus.serving.model.predictions import PlaneReport

_METRICS = (
    ("salus_ready", "gauge", "1 when the routes and all their models are loaded.", "ready"),
    ("salus_spool_bytes", "gauge", "Prediction records on disk, not yet deleted.", "spool_bytes"),
    ("salus_shipped_records_total", "counter", "Records that the control plane has.", "shipped_records"),
    ("salus_lost_records_total", "counter", "Predictions answered but not recorded.", "lost_records"),
    ("salus_online_cursor", "gauge", "Place in the feed of online features.", "online_cursor"),
)


class Health:
    """Looks at the parts; keeps nothing itself."""

    def __init__(
        self,
        *,
        started_ms: int,
        url: str,
        spool: Spool,
        shipper: Shipper,
        routes: RoutesClient,
        online: OnlineClient,
        counters: Counters,
    ) -> None:
        self.counters = counters
        self.loops: list[Loop] = []
        self._started_ms = started_ms
        self._url = url
        self._spool = spool
        self._shipper = shipper
        self._routes = routes
        self._online = online

    @property
    def ready(self) -> bool:
        """Whether there is a route table, all its models are loaded, and online features have come in."""
        return self._routes.known and self._online.settled

    @property
    def has_features(self) -> bool:
        """Whether look-ups of online features can be trusted to find what there is."""
        return self._online.settled

    def problems(self) -> list[str]:
        """What an operator should look at, one sentence each."""
        found = [self._spool.problem, self._routes.refused, *self._shipper.problems.values()]
        found += [loop.problem for loop in self.loops]
        return list(dict.fromkeys(problem for problem in found if problem))

    def report(self) -> PlaneReport:
        """What goes to the control plane every two seconds."""
        return PlaneReport(
            plane=self._spool.plane,
            started_ms=self._started_ms,
            epoch=self._routes.current.epoch,
            counters=self._numbers(),
            problems=tuple(self.problems()),
            address=self._url,
        )

    def _numbers(self) -> dict[str, float]:
        return {
            "ready": float(self.ready),
            "requests": self.counters.requests,
            "errors": self.counters.errors,
            "rows": self.counters.rows,
            "shipped_records": self._shipper.shipped_records,
            "lost_records": self._spool.lost_records,
            "spool_bytes": self._spool.unshipped_bytes,
            "online_cursor": self._online.cursor,
        }

    def metrics(self, under_way: int) -> str:
        """Everything counted, in Prometheus text format."""
        numbers = self._numbers()
        epoch = self._routes.current.epoch
        gauges: list[tuple[str, str, str, float]] = [
            ("salus_route_epoch", "gauge", "Epoch of the route table that is served.", epoch),
            ("salus_requests_under_way", "gauge", "Requests being answered.", under_way),
            ("salus_problems", "gauge", "Problems an operator should look at.", len(self.problems())),
        ]
        gauges += [(metric, kind, text, numbers[name]) for metric, kind, text, name in _METRICS]
        return self.counters.prometheus(gauges)
