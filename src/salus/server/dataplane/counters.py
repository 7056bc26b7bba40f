"""What the data plane counts, and how it tells: Prometheus text and the heartbeat. Touched by the event loop only."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable

BUCKETS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class EndpointCounters:
    """Requests to one endpoint by status, their rows, and how long they took from first byte to answer."""

    __slots__ = ("buckets", "model_errors", "rows", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = defaultdict(int)
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0
        self.rows = 0
        self.model_errors = 0

    def answered(self, status: int, duration_s: float) -> None:
        """One more request was answered."""
        self.statuses[status] += 1
        self.buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        self.seconds += duration_s


class Counters:
    """All counters of this process."""

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointCounters] = {}

    def of(self, endpoint: str) -> EndpointCounters:
        """The counters of an endpoint that exists."""
        found = self.endpoints.get(endpoint)
        if found is None:
            found = self.endpoints[endpoint] = EndpointCounters()
        return found

    @property
    def requests(self) -> int:
        """Requests answered, whatever the status."""
        return sum(sum(e.statuses.values()) for e in self.endpoints.values())

    @property
    def errors(self) -> int:
        """Requests answered with a status of 500 or above."""
        return sum(count for e in self.endpoints.values() for status, count in e.statuses.items() if status >= 500)

    @property
    def rows(self) -> int:
        """Rows answered."""
        return sum(e.rows for e in self.endpoints.values())

    def prometheus(self, gauges: Iterable[tuple[str, str, str, float]]) -> str:
        """Everything in Prometheus text format 0.0.4. `gauges` are `(name, kind, help, value)` from elsewhere."""
        lines = [
            "# HELP salus_requests_total Prediction requests by endpoint and status.",
            "# TYPE salus_requests_total counter",
        ]
        for name, counters in self.endpoints.items():
            for status, count in sorted(counters.statuses.items()):
                lines.append(f'salus_requests_total{{endpoint="{_label(name)}",status="{status}"}} {count}')
        for metric, help_, field in (
            ("salus_rows_total", "Rows answered.", "rows"),
            ("salus_model_errors_total", "Rows that the live model failed on.", "model_errors"),
        ):
            lines += [f"# HELP {metric} {help_}", f"# TYPE {metric} counter"]
            for name, counters in self.endpoints.items():
                lines.append(f'{metric}{{endpoint="{_label(name)}"}} {getattr(counters, field)}')
        lines += [
            "# HELP salus_request_seconds Time from the request's arrival to its answer.",
            "# TYPE salus_request_seconds histogram",
        ]
        for name, counters in self.endpoints.items():
            lines += _histogram(_label(name), counters)
        for metric, kind, help_, value in gauges:
            lines += [f"# HELP {metric} {help_}", f"# TYPE {metric} {kind}", f"{metric} {value:g}"]
        return "\n".join(lines) + "\n"


def _histogram(label: str, counters: EndpointCounters) -> list[str]:
    lines, total = [], 0
    for bound, count in zip((*BUCKETS_S, float("inf")), counters.buckets, strict=True):
        total += count
        le = "+Inf" if bound == float("inf") else f"{bound:g}"
        lines.append(f'salus_request_seconds_bucket{{endpoint="{label}",le="{le}"}} {total}')
    lines.append(f'salus_request_seconds_sum{{endpoint="{label}"}} {counters.seconds:.6f}')
    lines.append(f'salus_request_seconds_count{{endpoint="{label}"}} {total}')
    return lines


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
