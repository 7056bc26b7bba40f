"""The life of an alert: what a window means for the incidents that are open. Pure.

An incident fires when harm is certain and ends by itself when the windows are good again; what only might be harm waits
as `pending` and vanishes without a word. While an input is broken, drift and performance are not alarmed beside it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from salus.kernel.structs import Record
from salus.monitoring.model.alerts import MUTED_BY_BROKEN_INPUT, Alert, Cause, Severity

GOOD_WINDOWS: dict[Cause, int] = {
    "broken_input": 1,
    "sick_service": 2,
    "shifted_inputs": 1,
    "changed_relationship": 1,
}
"""So many good windows in a row end an incident (the detectors themselves ask for five of performance)."""

Level = Literal["good", "suspicious", "harm"]


class Sign(Record):
    """What one window says about one cause. `since_ms` is when it began, `columns` what it is about; a suspicion that
    `insists` is harm when it comes a second time."""

    cause: Cause
    level: Level
    title: str = ""
    severity: Severity = "warning"
    columns: tuple[str, ...] = ()
    since_ms: int = 0
    insists: bool = False


class Step(Record):
    """What becomes of the incident: `raised`, `changed`, `resolved` are news; `dropped` never was one."""

    kind: Literal["none", "raised", "changed", "resolved", "kept", "dropped"]
    alert: Alert | None = None


def advance(known: Alert | None, sign: Sign, fresh: Alert, *, muted: bool) -> Step:
    """The incident of `sign.cause` after a window; `fresh` is the alert as it would be made new.

    Args:
        muted: an input is broken, which explains this sign.
    """
    if known is None:
        if sign.level == "good" or (muted and sign.cause in MUTED_BY_BROKEN_INPUT):
            return Step(kind="none")
        if sign.level == "suspicious":
            return Step(kind="kept", alert=msgspec.structs.replace(fresh, state="pending"))
        return Step(kind="raised", alert=fresh)
    if sign.level == "good":
        return _calmer(known, fresh)
    if known.state == "pending":
        if (sign.level == "suspicious" and not sign.insists) or (muted and sign.cause in MUTED_BY_BROKEN_INPUT):
            return Step(kind="kept", alert=_renewed(known, fresh))
        since_ms = min(known.since_event_ms, fresh.since_event_ms)
        raised = msgspec.structs.replace(fresh, id=known.id, created_ms=known.created_ms, since_event_ms=since_ms)
        return Step(kind="raised", alert=raised)
    columns = tuple(dict.fromkeys((*known.columns, *sign.columns)))
    grown = msgspec.structs.replace(_renewed(known, fresh), columns=columns)
    if columns != known.columns:
        return Step(kind="changed", alert=msgspec.structs.replace(grown, title=fresh.title))
    return Step(kind="kept", alert=grown)


def _renewed(known: Alert, fresh: Alert) -> Alert:
    return msgspec.structs.replace(
        known, quiet=0, window_end_ms=max(known.window_end_ms, fresh.window_end_ms), updated_ms=fresh.updated_ms
    )


def _calmer(known: Alert, fresh: Alert) -> Step:
    if known.state == "pending":
        return Step(kind="dropped", alert=known)
    quiet = known.quiet + 1
    if quiet < GOOD_WINDOWS[known.cause]:
        return Step(kind="kept", alert=msgspec.structs.replace(known, quiet=quiet, updated_ms=fresh.updated_ms))
    return Step(kind="resolved", alert=resolved(known, fresh.window_end_ms, fresh.updated_ms, "good again by itself"))


def resolved(alert: Alert, event_ms: int, now_ms: int, reason: str) -> Alert:
    """The incident, ended."""
    return msgspec.structs.replace(
        alert, state="resolved", resolved_event_ms=event_ms, resolved_reason=reason, updated_ms=now_ms
    )
