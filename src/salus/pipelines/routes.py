"""Pipelines, their runs and the worker protocol over HTTP."""

from __future__ import annotations

from salus.kernel.claims import Pulse
from salus.kernel.identity import Actor
from salus.kernel.jobs import Job
from salus.kernel.schedules import Schedule
from salus.pipelines import service, work
from salus.pipelines.graph import PutPipeline
from salus.pipelines.model import (
    Pipeline,
    PipelineRun,
    PipelineRunDetails,
    PipelineRunSummary,
    PutSchedule,
    StartPipelineRun,
)
from salus.pipelines.work import Beat, ClaimJobs, CompleteJob, FailJob, ReleaseJob
from salus.web.context import Context
from salus.web.pagination import Page, check_limit
from salus.web.routing import IdempotencyKey, delete, get, post, put, slice_router

_LOOK_AGAIN_S = 0.2


@put("/pipelines/{name:str}", permission="write", summary="Deploy a pipeline")
async def put_pipeline(context: Context, actor: Actor, name: str, data: PutPipeline) -> Pipeline:
    """The same definition again changes nothing; another one raises the revision."""
    return await context.write(service.put_pipeline, actor, name, data)


@get("/pipelines", permission="read", summary="All pipelines")
async def list_pipelines(context: Context, actor: Actor) -> list[Pipeline]:
    """By name."""
    return await context.read(service.list_pipelines, actor)


@get("/pipelines/{name:str}", permission="read", summary="One pipeline")
async def get_pipeline(context: Context, actor: Actor, name: str) -> Pipeline:
    """With its graph."""
    return await context.read(service.get_pipeline, actor, name)


@post("/pipelines/{name:str}/runs", permission="write", summary="Start a run of a pipeline")
async def start_run(
    context: Context, actor: Actor, name: str, data: StartPipelineRun, idempotency_key: IdempotencyKey = None
) -> PipelineRun:
    """Its steps are run by workers; see `GET /pipeline-runs/{id}`."""
    return await context.write_once(idempotency_key, PipelineRun, service.start_run, actor, data, name)


@get("/pipeline-runs", permission="read", summary="Runs of pipelines, newest first")
async def list_runs(
    context: Context,
    actor: Actor,
    pipeline: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[PipelineRunSummary]:
    """With how many of their steps are done."""
    check_limit(limit)
    found = await context.read(service.list_runs, actor, pipeline=pipeline, before=cursor, limit=limit)
    return Page(items=found, next_cursor=found[-1].id if len(found) == limit else None)


@get("/pipeline-runs/{run_id:str}", permission="read", summary="One run of a pipeline")
async def describe_run(context: Context, actor: Actor, run_id: str) -> PipelineRunDetails:
    """With its steps: state, attempts, progress, error, the end of what they printed."""
    return await context.read(service.describe_run, actor, run_id)


@post("/pipeline-runs/{run_id:str}/cancel", permission="write", summary="Cancel a run of a pipeline")
async def cancel_run(context: Context, actor: Actor, run_id: str) -> PipelineRunDetails:
    """Queued steps never start; running ones are stopped."""
    return await context.write(service.cancel_run, actor, run_id)


@post("/pipeline-runs/{run_id:str}/resume", permission="write", summary="Resume a run of a pipeline")
async def resume_run(context: Context, actor: Actor, run_id: str) -> PipelineRunDetails:
    """Finished steps whose code and inputs are still the same are kept."""
    return await context.write(service.resume_run, actor, run_id)


@put("/pipelines/{name:str}/schedules/{schedule:str}", permission="write", summary="Run a pipeline by the clock")
async def put_schedule(context: Context, actor: Actor, name: str, schedule: str, data: PutSchedule) -> Schedule:
    """Five cron fields, UTC."""
    return await context.write(service.put_schedule, actor, name, schedule, data)


@get("/pipelines/{name:str}/schedules", permission="read", summary="A pipeline's schedules")
async def list_schedules(context: Context, actor: Actor, name: str) -> list[Schedule]:
    """By name."""
    return await context.read(service.list_schedules, actor, name)


@delete("/pipelines/{name:str}/schedules/{schedule:str}", permission="write", summary="End a schedule")
async def remove_schedule(context: Context, actor: Actor, name: str, schedule: str) -> Schedule:
    """Gives the schedule as it was."""
    return await context.write(service.remove_schedule, actor, name, schedule)


@post("/jobs/claim", permission="operate", summary="Take work (for workers)")
async def claim_jobs(context: Context, actor: Actor, data: ClaimJobs) -> list[Job]:
    """Waits for work at most `wait_s` seconds."""

    async def look() -> list[Job]:
        return await context.write(work.claim, actor, data) if await context.read(work.any_due, actor, data) else []

    if claimed := await context.write(work.claim, actor, data):
        return claimed
    return await context.waiting.until(look, bool, data.wait_s, look_again_s=_LOOK_AGAIN_S)


@get("/jobs", permission="read", summary="Jobs, newest first")
async def list_jobs(context: Context, actor: Actor, limit: int = 100, cursor: str | None = None) -> Page[Job]:
    """Of all kinds."""
    check_limit(limit)
    found = await context.read(work.list_jobs, actor, before=cursor, limit=limit)
    return Page(items=found, next_cursor=found[-1].id if len(found) == limit else None)


@post("/jobs/{job_id:str}/heartbeat", permission="operate", summary="Keep a job (for workers)")
async def beat(context: Context, actor: Actor, job_id: str, data: Beat) -> Pulse:
    """Says whether the work is to be given up; 409 when the job is no longer the caller's."""
    return await context.write(work.beat, actor, job_id, data)


@post("/jobs/{job_id:str}/complete", permission="operate", summary="Report a result (for workers)")
async def complete_job(context: Context, actor: Actor, job_id: str, data: CompleteJob) -> Job:
    """Recorded once, however often it is sent; 409 when the job is no longer the caller's."""
    return await context.write(work.complete, actor, job_id, data)


@post("/jobs/{job_id:str}/fail", permission="operate", summary="Report a failure (for workers)")
async def fail_job(context: Context, actor: Actor, job_id: str, data: FailJob) -> Job:
    """Tried again after the back-off, or over; 409 when the job is no longer the caller's."""
    return await context.write(work.fail, actor, job_id, data)


@post("/jobs/{job_id:str}/release", permission="operate", summary="Give a job back (for workers)")
async def release_job(context: Context, actor: Actor, job_id: str, data: ReleaseJob) -> Job:
    """Unharmed: due again at once."""
    return await context.write(work.release, actor, job_id, data)


router = slice_router(
    "pipelines",
    [
        put_pipeline,
        list_pipelines,
        get_pipeline,
        start_run,
        list_runs,
        describe_run,
        cancel_run,
        resume_run,
        put_schedule,
        list_schedules,
        remove_schedule,
        claim_jobs,
        list_jobs,
        beat,
        complete_job,
        fail_job,
        release_job,
    ],
)
