"""The doctor in the SDK: `client.monitoring.diagnosis("flight-delay").text`."""

from __future__ import annotations

from salus.monitoring.model.alerts import Alert
from salus.monitoring.model.diagnoses import Diagnosis
from salus.monitoring.model.watches import Patient, Vitals, Watch, WatchSettings
from salus.sdk.session import Session, path
from salus.web.pagination import Page


class MonitoringClient:
    """What a program can ask the doctor."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def ward(self) -> list[Patient]:
        """Every endpoint that is watched, and how it is."""
        return self._session.call("GET", path("ward"), expect=list[Patient])

    def vitals(self, endpoint: str, *, from_ms: int | None = None, to_ms: int | None = None) -> Vitals:
        """Windows, alerts and marks of an endpoint in [from_ms, to_ms)."""
        query = {"from_ms": from_ms, "to_ms": to_ms}
        return self._session.call("GET", path("endpoints", endpoint, "vitals"), query=query, expect=Vitals)

    def diagnosis(self, endpoint: str) -> Diagnosis:
        """How the endpoint is, why, and what to do."""
        return self._session.call("GET", path("endpoints", endpoint, "diagnosis"), expect=Diagnosis)

    def watch(self, endpoint: str) -> Watch:
        """How the endpoint is watched."""
        return self._session.call("GET", path("endpoints", endpoint, "watch"), expect=Watch)

    def set_watch(self, endpoint: str, settings: WatchSettings) -> Watch:
        """Watches the endpoint differently from the next window on."""
        return self._session.call("PUT", path("endpoints", endpoint, "watch"), body=settings, expect=Watch)

    def broken_ranges(self, endpoint: str) -> list[tuple[int, int]]:
        """Stretches of event time, [start, end) in ms, that are not to be learned from."""
        return self._session.call("GET", path("endpoints", endpoint, "broken"), expect=list[tuple[int, int]])

    def alerts(self, endpoint: str | None = None, state: str | None = None, limit: int = 100) -> list[Alert]:
        """Alerts, newest first."""
        query = {"endpoint": endpoint, "state": state, "limit": limit}
        return self._session.call("GET", path("alerts"), query=query, expect=Page[Alert]).items

    def alert(self, alert_id: str) -> Alert:
        """One alert with its diagnosis."""
        return self._session.call("GET", path("alerts", alert_id), expect=Alert)

    def acknowledge(self, alert_id: str) -> Alert:
        """Says that somebody looks after it."""
        return self._session.call("POST", path("alerts", alert_id, "acknowledge"), expect=Alert, once=True)
