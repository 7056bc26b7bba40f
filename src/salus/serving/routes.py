"""Endpoints over HTTP; and the line on which control plane and data planes speak."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import msgspec
import polars as pl
from litestar import Request, Response

from salus.kernel.errors import InvalidInput, Unavailable
from salus.kernel.idempotency import once
from salus.kernel.identity import Actor
from salus.kernel.sql import Transaction
from salus.serving.model.endpoints import Endpoint, PutEndpoint, PutShadows
from salus.serving.model.labels import Completeness, LabelsAccepted, PostLabels
from salus.serving.model.predictions import Plane, PlaneReport, PredictionRow, Shipped
from salus.serving.model.rollouts import EndpointDetail, Reason, Rollout, RolloutDetail, StartRollout
from salus.serving.service import endpoints, labels, outcomes, planes, predictions, rollouts
from salus.web.context import Context
from salus.web.pagination import Page, check_limit
from salus.web.routing import IdempotencyKey, get, post, put, slice_router

MSGPACK = "application/vnd.msgpack"
ARROW = "application/vnd.apache.arrow.file"
_LONGEST_WAIT_S = 30.0
_RETRIES = 5


@put("/endpoints/{name:str}", permission="operate", summary="Make an endpoint, or describe it anew")
async def put_endpoint(context: Context, actor: Actor, name: str, data: PutEndpoint) -> Endpoint:
    """It serves nothing until a rollout begins."""
    return await context.write(endpoints.put_endpoint, actor, name, data)


@get("/endpoints", permission="read", summary="All endpoints")
async def list_endpoints(context: Context, actor: Actor) -> list[Endpoint]:
    """By name."""
    return await context.read(endpoints.list_endpoints, actor)


@get("/endpoints/{name:str}", permission="read", summary="One endpoint")
async def describe_endpoint(context: Context, actor: Actor, name: str) -> EndpointDetail:
    """With its split, its revisions and the rollout under way."""
    return await context.read(endpoints.describe_endpoint, actor, name)


@put("/endpoints/{name:str}/shadows", permission="operate", summary="Choose who answers unseen")
async def put_shadows(context: Context, actor: Actor, name: str, data: PutShadows) -> EndpointDetail:
    """Exactly these versions; an empty list ends shadowing."""
    return await context.write(endpoints.put_shadows, actor, name, data)


@post("/endpoints/{name:str}/rollouts", permission="operate", summary="Deploy a model version")
async def start_rollout(
    context: Context,
    actor: Actor,
    name: str,
    data: StartRollout,
    idempotency_key: IdempotencyKey = None,
) -> Rollout:
    """By canary unless the strategy says otherwise; the first version gets everything at once."""

    def unit(tx: Transaction) -> Rollout:
        return once(
            tx,
            actor,
            idempotency_key,
            ["start_rollout", name, data],
            Rollout,
            lambda: rollouts.start_rollout(tx, actor, name, data, gate=context.gate),
        )

    return await context.write(unit)


@get("/endpoints/{name:str}/rollouts", permission="read", summary="An endpoint's rollouts, newest first")
async def list_rollouts(
    context: Context, actor: Actor, name: str, limit: int = 50, cursor: str | None = None
) -> Page[Rollout]:
    """The history of its deployments."""
    check_limit(limit)
    found = await context.read(rollouts.list_rollouts, actor, name, before=cursor, limit=limit)
    return Page(items=found, next_cursor=found[-1].id if len(found) == limit else None)


@post("/endpoints/{name:str}/rollback", permission="operate", summary="Go back")
async def roll_back_endpoint(context: Context, actor: Actor, name: str, data: Reason) -> Rollout:
    """Ends the rollout under way; without one, the revision that was live before is live again."""
    return await context.write(rollouts.roll_back_endpoint, actor, name, data)


@get("/rollouts/{rollout_id:str}", permission="read", summary="One rollout with its evidence")
async def describe_rollout(context: Context, actor: Actor, rollout_id: str) -> RolloutDetail:
    """The looks are the points of its chart."""
    return await context.read(rollouts.describe_rollout, actor, rollout_id)


@post("/rollouts/{rollout_id:str}/promote", permission="operate", summary="Promote by hand")
async def promote(context: Context, actor: Actor, rollout_id: str, data: Reason) -> Rollout:
    """Now, whatever the evidence says."""
    return await context.write(rollouts.promote_by_hand, actor, rollout_id, data, gate=context.gate)


@post("/rollouts/{rollout_id:str}/rollback", permission="operate", summary="Roll back by hand")
async def roll_back(context: Context, actor: Actor, rollout_id: str, data: Reason) -> Rollout:
    """Now, whatever the evidence says."""
    return await context.write(rollouts.roll_back_by_hand, actor, rollout_id, data)


@post("/endpoints/{name:str}/labels", permission="write", summary="Say what became of predictions")
async def record_labels(context: Context, actor: Actor, name: str, data: PostLabels) -> LabelsAccepted:
    """All of them or none; sending the same label again changes nothing."""
    return await context.write(labels.record_labels, actor, name, data)


@get("/endpoints/{name:str}/predictions", permission="read", summary="Recent predictions")
async def recent_predictions(
    context: Context, actor: Actor, name: str, limit: int = 50, cursor: str | None = None
) -> Page[PredictionRow]:
    """Newest in event time first; each with the live answer and the shadows' answers."""
    check_limit(limit)
    found = await context.read(outcomes.recent, actor, name, context.segments, cursor=cursor, limit=limit)
    rows = await asyncio.to_thread(found.read)
    full = len({row.prediction_id for row in rows}) == limit
    return Page(items=rows, next_cursor=outcomes.cursor_of(rows[-1]) if full else None)


@get("/endpoints/{name:str}/outcomes", permission="read", summary="Predictions with their labels, as Arrow")
async def read_outcomes(
    context: Context,
    actor: Actor,
    name: str,
    from_ms: int,
    to_ms: int,
    column: list[str] | None = None,
) -> Response[bytes]:
    """An Arrow IPC file: one row for each answer with an event time in [from_ms, to_ms)."""
    found = await context.read(
        outcomes.outcomes, actor, name, context.segments, from_ms=from_ms, to_ms=to_ms, columns=column
    )
    return Response(await asyncio.to_thread(_arrow, found), media_type=ARROW)


def _arrow(found: outcomes.Outcomes) -> bytes:
    buffer = io.BytesIO()
    frame: pl.DataFrame = found.read()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


@get("/endpoints/{name:str}/completeness", permission="read", summary="How many predictions have labels")
async def completeness(context: Context, actor: Actor, name: str, from_ms: int, to_ms: int) -> Completeness:
    """Of the live predictions with an event time in [from_ms, to_ms)."""
    found = await context.read(outcomes.completeness, actor, name, context.segments, from_ms=from_ms, to_ms=to_ms)
    return await asyncio.to_thread(outcomes.completeness_of, found)


@get("/serving/routes", permission="read", summary="The route table, for data planes")
async def routes(
    context: Context, actor: Actor, after: int = -1, wait_s: float = 0.0, plane: str | None = None
) -> Response[bytes]:
    """As msgpack, as soon as its epoch is another than `after`; 204 when nothing is new within `wait_s`."""
    if not 0 <= wait_s <= _LONGEST_WAIT_S:
        raise InvalidInput(f"wait_s must be between 0 and {_LONGEST_WAIT_S:g}, got {wait_s}", path="wait_s")
    table = await context.waiting.until(
        lambda: context.read(endpoints.routes_after, actor, after), lambda found: found is not None, wait_s
    )
    if table is None:
        return Response(b"", status_code=204, media_type=MSGPACK)
    return Response(msgspec.msgpack.encode(table), media_type=MSGPACK)


@post("/serving/planes", permission="write", summary="A data plane reports")
async def report_plane(context: Context, actor: Actor, data: PlaneReport) -> Plane:
    """The answer says up to where its predictions are stored."""
    return await context.write(planes.report_plane, actor, data)


@get("/serving/planes", permission="read", summary="All data planes")
async def list_planes(context: Context, actor: Actor) -> list[Plane]:
    """Newest first."""
    return await context.read(planes.list_planes, actor)


@post("/serving/predictions", permission="write", summary="A data plane ships predictions")
async def ship_predictions(context: Context, actor: Actor, request: Request[Any, Any, Any]) -> Shipped:
    """The body is a `PredictionBatch` in msgpack. What is stored already is passed over; a gap is refused."""
    batch = await asyncio.to_thread(predictions.decode_batch, await request.body())
    for _ in range(_RETRIES):
        known = await context.read(predictions.intake, actor, batch)
        prepared = await asyncio.to_thread(predictions.prepare, batch, known, context.segments, actor.workspace)
        shipped = await context.write(predictions.record_predictions, actor, prepared, context.segments)
        if shipped is not None:
            return shipped
    raise Unavailable(
        f"others keep shipping for the plane {batch.plane}", remedy="Send the batch again.", retry_after_s=1.0
    )


router = slice_router(
    "serving",
    [
        put_endpoint,
        list_endpoints,
        describe_endpoint,
        put_shadows,
        start_rollout,
        list_rollouts,
        roll_back_endpoint,
        describe_rollout,
        promote,
        roll_back,
        record_labels,
        recent_predictions,
        read_outcomes,
        completeness,
        routes,
        report_plane,
        list_planes,
        ship_predictions,
    ],
)
