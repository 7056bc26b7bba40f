"""The doctor over HTTP."""

from __future__ import annotations

from typing import Annotated

from litestar.params import Parameter

from salus.kernel.identity import Actor
from salus.monitoring import service
from salus.monitoring.model.alerts import Alert, AlertState
from salus.monitoring.model.diagnoses import Diagnosis
from salus.monitoring.model.watches import Patient, Vitals, Watch, WatchSettings
from salus.web.context import Context
from salus.web.pagination import Page, check_limit
from salus.web.routing import get, post, put, slice_router


@get("/ward", permission="read", summary="Every endpoint and how it is")
async def ward(context: Context, actor: Actor) -> list[Patient]:
    """By name, with the latest vital signs, open alerts and the last decision."""
    return await context.read(service.ward, actor)


@get("/endpoints/{name:str}/vitals", permission="read", summary="Vital signs over time")
async def vitals(
    context: Context, actor: Actor, name: str, from_ms: int | None = None, to_ms: int | None = None
) -> Vitals:
    """Windows with metrics and intervals, those of shadows, alerts and marks."""
    return await context.read(service.vitals, actor, name, from_ms=from_ms, to_ms=to_ms)


@get("/endpoints/{name:str}/diagnosis", permission="read", summary="How an endpoint is, why, and what to do")
async def diagnosis(context: Context, actor: Actor, name: str) -> Diagnosis:
    """The same text as in the page and on the command line."""
    return await context.read(service.diagnosis, actor, name)


@get("/endpoints/{name:str}/watch", permission="read", summary="How an endpoint is watched")
async def get_watch(context: Context, actor: Actor, name: str) -> Watch:
    """Its reference, windows and settings."""
    return await context.read(service.get_watch, actor, name)


@put("/endpoints/{name:str}/watch", permission="write", summary="Watch an endpoint differently")
async def change_watch(context: Context, actor: Actor, name: str, data: WatchSettings) -> Watch:
    """What is left out is found out by Salus itself."""
    return await context.write(service.change_watch, actor, name, data)


@get("/endpoints/{name:str}/broken", permission="read", summary="Stretches with broken input")
async def broken_ranges(context: Context, actor: Actor, name: str) -> list[tuple[int, int]]:
    """Event times [start, end) that are not to be learned from."""
    return await context.read(service.broken_ranges, actor, name)


@get("/alerts", permission="read", summary="Alerts, newest first")
async def list_alerts(
    context: Context,
    actor: Actor,
    endpoint: str | None = None,
    in_state: Annotated[AlertState | None, Parameter(query="state")] = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Alert]:
    """Of one endpoint or all."""
    check_limit(limit)
    found = await context.read(
        service.list_alerts, actor, endpoint=endpoint, state=in_state, before=cursor, limit=limit
    )
    return Page(items=found, next_cursor=found[-1].id if len(found) == limit else None)


@get("/alerts/{alert_id:str}", permission="read", summary="One alert")
async def get_alert(context: Context, actor: Actor, alert_id: str) -> Alert:
    """With the diagnosis it was raised with."""
    return await context.read(service.get_alert, actor, alert_id)


@post("/alerts/{alert_id:str}/acknowledge", permission="write", summary="Look after an alert")
async def acknowledge(context: Context, actor: Actor, alert_id: str) -> Alert:
    """A second time changes nothing."""
    return await context.write(service.acknowledge, actor, alert_id)


router = slice_router(
    "monitoring",
    [
        ward,
        vitals,
        diagnosis,
        get_watch,
        change_watch,
        broken_ranges,
        list_alerts,
        get_alert,
        acknowledge,
    ],
)
