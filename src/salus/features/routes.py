"""Features over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import polars as pl
from litestar import Request, Response

from salus.features import ingest, service
from salus.features.feed import feed_of
from salus.features.model import (
    FeatureService,
    FeatureView,
    OnlineChanges,
    OnlineRead,
    OnlineStatus,
    Pushed,
    PutService,
    PutView,
)
from salus.kernel.errors import InvalidInput
from salus.kernel.identity import Actor
from salus.kernel.sql import Reader
from salus.web.context import Context
from salus.web.routing import IdempotencyKey, get, post, put, slice_router

MAX_WAIT_S = 55.0
_CHANGES = 5_000
_ARROW = "application/vnd.apache.arrow.file"
_MSGPACK = "application/msgpack"


@put("/features/views/{name:str}", permission="write", summary="Declare a feature view")
async def put_view(context: Context, actor: Actor, name: str, data: PutView) -> FeatureView:
    """Made if it is not there. Once it holds rows, features may only be added at the end."""
    return await context.write(service.put_view, actor, name, data)


@get("/features/views", permission="read", summary="Feature views by name")
async def list_views(context: Context, actor: Actor) -> list[FeatureView]:
    """Those of the workspace."""
    return await context.read(service.list_views, actor)


@get("/features/views/{name:str}", permission="read", summary="A feature view")
async def get_view(context: Context, actor: Actor, name: str) -> FeatureView:
    """With its keys, features and time to live."""
    return await context.read(service.get_view, actor, name)


@post("/features/views/{name:str}/rows", permission="write", summary="Push rows (an Arrow IPC file)")
async def push_rows(
    context: Context,
    actor: Actor,
    name: str,
    request: Request[Any, Any, Any],
    idempotency_key: IdempotencyKey = None,
) -> Pushed:
    """History and online state in one commit; or 422, and nothing was written."""
    body = await request.body()
    return await asyncio.to_thread(ingest.push, context.database, context.segments, actor, name, body, idempotency_key)


@get("/features/views/{name:str}/history", permission="read", summary="Rows of a view (an Arrow IPC file)")
async def get_history(
    context: Context, actor: Actor, name: str, from_ms: int | None = None, to_ms: int | None = None
) -> Response[bytes]:
    """Those with an event time in [from_ms, to_ms]: keys, event time, features and `created_ms`."""

    def use_case(reader: Reader) -> tuple[FeatureView, pl.LazyFrame]:
        return ingest.history(reader, context.segments, actor, name, from_ms, to_ms)

    view, rows = await context.read(use_case)
    return Response(await asyncio.to_thread(ingest.collect_history, view, rows), media_type=_ARROW)


@get("/features/online/changes", permission="read", summary="Online rows behind a cursor (msgpack)")
async def online_changes(
    context: Context, actor: Actor, after: int = 0, wait_s: float = 0.0, plane: str = ""
) -> Response[bytes]:
    """Waits at most `wait_s` for news. `after` says what `plane` has; 0 asks for the whole online state."""
    if not 0 <= wait_s <= MAX_WAIT_S:
        raise InvalidInput(f"wait_s is between 0 and {MAX_WAIT_S:g}, got {wait_s}", path="wait_s")
    if after < 0:
        raise InvalidInput(f"a cursor is not negative, got {after}", path="after")
    feed = feed_of(context)
    if plane:
        feed.acknowledge(actor.workspace, plane[:255], after)

    async def look() -> OnlineChanges:
        return await context.read(service.online_changes, actor, after, _CHANGES)

    changes = await context.waiting.until(look, lambda found: bool(found.rows), wait_s)
    return Response(msgspec.msgpack.encode(changes), media_type=_MSGPACK)


@get("/features/online/acknowledged", permission="read", summary="How far each data plane has read")
async def acknowledged(context: Context, actor: Actor) -> OnlineStatus:
    """The newest cursor, and the planes of the last ten seconds."""
    cursor = await context.read(service.online_head, actor)
    feed = feed_of(context)
    return OnlineStatus(cursor=cursor, planes=feed.planes(actor.workspace), settled=feed.settled)


@post("/features/online/read", permission="read", summary="Look up features by key")
async def read_online(context: Context, actor: Actor, data: OnlineRead) -> list[dict[str, Any] | None]:
    """For each key the features that hold at `at_ms`, or null."""
    return await context.read(service.read_online, actor, data)


@put("/features/services/{name:str}", permission="write", summary="Declare a feature service")
async def put_service(context: Context, actor: Actor, name: str, data: PutService) -> FeatureService:
    """Made if it is not there."""
    return await context.write(service.put_service, actor, name, data)


@get("/features/services", permission="read", summary="Feature services by name")
async def list_services(context: Context, actor: Actor) -> list[FeatureService]:
    """Those of the workspace."""
    return await context.read(service.list_services, actor)


@get("/features/services/{name:str}", permission="read", summary="A feature service")
async def get_service(context: Context, actor: Actor, name: str) -> FeatureService:
    """With what it takes of which views."""
    return await context.read(service.get_service, actor, name)


router = slice_router(
    "features",
    [
        put_view,
        list_views,
        get_view,
        push_rows,
        get_history,
        online_changes,
        acknowledged,
        read_online,
        put_service,
        list_services,
        get_service,
    ],
)
