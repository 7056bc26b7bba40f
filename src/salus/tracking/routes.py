"""Runs over HTTP."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.response import Stream

from salus.kernel.errors import InvalidInput
from salus.kernel.identity import Actor
from salus.tracking import service
from salus.tracking.model import (
    Artifact,
    CreateExperiment,
    Experiment,
    FinishRun,
    LogBatch,
    Logged,
    MetricHistory,
    Run,
    RunDetails,
    RunSummary,
    StartRun,
    check_artifact_path,
)
from salus.web.context import Context
from salus.web.pagination import Page, check_limit
from salus.web.routing import IdempotencyKey, get, post, put, slice_router
from salus.web.uploads import spooled

_MIN_SAMPLE = 4


@post("/experiments", permission="write", summary="Make an experiment, or find it by its name")
async def create_experiment(context: Context, actor: Actor, data: CreateExperiment) -> Experiment:
    """The same name twice gives the same experiment."""
    return await context.write(service.create_experiment, actor, data)


@get("/experiments", permission="read", summary="All experiments")
async def list_experiments(context: Context, actor: Actor) -> list[Experiment]:
    """Newest first."""
    return await context.read(service.list_experiments, actor)


@post("/runs", permission="write", summary="Start a run")
async def start_run(context: Context, actor: Actor, data: StartRun, idempotency_key: IdempotencyKey = None) -> Run:
    """The experiment is made if it is not there."""
    return await context.write_once(idempotency_key, Run, service.start_run, actor, data)


@get("/runs", permission="read", summary="Runs, newest first")
async def list_runs(
    context: Context,
    actor: Actor,
    experiment: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[RunSummary]:
    """Parameters, tags and last metric values included."""
    check_limit(limit)
    found = await context.read(service.list_runs, actor, experiment=experiment, before=cursor, limit=limit)
    return Page(items=found, next_cursor=found[-1].run.id if len(found) == limit else None)


@get("/runs/{run_id:str}", permission="read", summary="One run")
async def describe_run(context: Context, actor: Actor, run_id: str) -> RunDetails:
    """With parameters, tags, last metric values and artifacts."""
    return await context.read(service.describe_run, actor, run_id)


@post("/runs/{run_id:str}/log", permission="write", summary="Log metrics, parameters and tags")
async def log(
    context: Context, actor: Actor, run_id: str, data: LogBatch, idempotency_key: IdempotencyKey = None
) -> Logged:
    """All of the batch or nothing."""
    logged = await context.write_once(idempotency_key, Logged, service.log, actor, data, run_id)
    context.live.notify("RunProgressed", actor.workspace, run=run_id)
    return logged


@post("/runs/{run_id:str}/finish", permission="write", summary="End a run")
async def finish_run(context: Context, actor: Actor, run_id: str, data: FinishRun) -> Run:
    """Ending it twice the same way is no error."""
    return await context.write(service.finish_run, actor, run_id, data)


@get("/runs/{run_id:str}/metrics/{key:path}", permission="read", summary="A metric's curve")
async def metric_history(
    context: Context, actor: Actor, run_id: str, key: str, max_points: int | None = None
) -> MetricHistory:
    """All points, or a sample of at most `max_points` that keeps every spike."""
    if max_points is not None and max_points < _MIN_SAMPLE:
        raise InvalidInput(f"max_points must be at least {_MIN_SAMPLE}, got {max_points}", path="max_points")
    return await context.read(service.metric_history, actor, run_id, key.lstrip("/"), max_points)


@get("/runs/{run_id:str}/artifacts", permission="read", summary="A run's files")
async def list_artifacts(context: Context, actor: Actor, run_id: str) -> list[Artifact]:
    """By path."""
    return await context.read(service.list_artifacts, actor, run_id)


@put(
    "/runs/{run_id:str}/artifacts/{path:path}",
    permission="write",
    request_max_body_size=None,
    summary="Add a file to a run",
)
async def put_artifact(
    context: Context, actor: Actor, run_id: str, path: str, request: Request[Any, Any, Any]
) -> Artifact:
    """The raw body becomes the file."""
    name = check_artifact_path(path.lstrip("/"))
    await context.read(service.get_run, actor, run_id)
    info = await spooled(request.stream(), context.blobs, context.settings.max_blob_bytes)
    return await context.write(
        service.add_artifact, actor, run_id, path=name, digest=info.digest, size_bytes=info.size_bytes
    )


@get("/runs/{run_id:str}/artifacts/{path:path}", permission="read", summary="A file of a run")
async def get_artifact(context: Context, actor: Actor, run_id: str, path: str) -> Response[Any]:
    """As an attachment: what users upload is never rendered on this origin."""
    artifact = await context.read(service.get_artifact, actor, run_id, path.lstrip("/"))
    return Stream(
        context.blobs.stream(artifact.digest),
        media_type="application/octet-stream",
        headers={"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"},
    )


router = slice_router(
    "tracking",
    [
        create_experiment,
        list_experiments,
        start_run,
        list_runs,
        describe_run,
        log,
        finish_run,
        metric_history,
        list_artifacts,
        put_artifact,
        get_artifact,
    ],
)
