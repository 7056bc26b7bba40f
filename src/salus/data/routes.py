"""Datasets over HTTP."""

from __future__ import annotations

import asyncio

from salus.data import ingest, service
from salus.data.model import (
    DataFile,
    Dataset,
    DatasetDetail,
    DatasetVersion,
    DatasetVersionSummary,
    NewVersion,
    PutDataset,
    ValidationReport,
)
from salus.kernel.identity import Actor
from salus.web.context import Context
from salus.web.pagination import Page, check_limit, number_cursor
from salus.web.routing import IdempotencyKey, get, post, put, slice_router


@put("/datasets/{name:str}", permission="write", summary="Declare a dataset: schema, expectations")
async def put_dataset(context: Context, actor: Actor, name: str, data: PutDataset) -> Dataset:
    """Made if it is not there; a field that is left out stays as it is."""
    return await context.write(service.put_dataset, actor, name, data)


@get("/datasets", permission="read", summary="Datasets by name")
async def list_datasets(context: Context, actor: Actor, limit: int = 100, cursor: str | None = None) -> Page[Dataset]:
    """Those of the workspace."""
    check_limit(limit)
    found = await context.read(service.list_datasets, actor, after=cursor or "", limit=limit)
    return Page(items=found, next_cursor=found[-1].name if len(found) == limit else None)


@get("/datasets/{name:str}", permission="read", summary="A dataset and its newest versions")
async def describe_dataset(context: Context, actor: Actor, name: str) -> DatasetDetail:
    """The newest hundred versions, newest first."""
    return await context.read(service.describe_dataset, actor, name)


@get("/datasets/{name:str}/versions", permission="read", summary="Versions, newest first")
async def list_versions(
    context: Context, actor: Actor, name: str, limit: int = 100, cursor: str | None = None
) -> Page[DatasetVersionSummary]:
    """Without profiles and files."""
    check_limit(limit)
    before = None if cursor is None else number_cursor(cursor)
    found = await context.read(service.list_versions, actor, name, before=before, limit=limit)
    return Page(items=found, next_cursor=str(found[-1].version) if len(found) == limit else None)


@post("/datasets/{name:str}/versions", permission="write", summary="Commit uploaded Parquet files")
async def commit_version(
    context: Context, actor: Actor, name: str, data: NewVersion, idempotency_key: IdempotencyKey = None
) -> DatasetVersion:
    """A new version; or 422, whose `details` is the validation report, and nothing was written."""
    return await asyncio.to_thread(
        ingest.commit, context.database, context.segments, actor, name, data, idempotency_key
    )


@post("/datasets/{name:str}/validate", permission="read", summary="What a commit of these files would say")
async def validate_files(context: Context, actor: Actor, name: str, data: NewVersion) -> ValidationReport:
    """The report; nothing is written, whatever it says."""
    return await asyncio.to_thread(ingest.validate_files, context.database, context.blobs, actor, name, data)


@get("/datasets/{name:str}/versions/{version:int}", permission="read", summary="A version")
async def get_version(context: Context, actor: Actor, name: str, version: int) -> DatasetVersion:
    """With schema, profile and files."""
    return await context.read(service.get_version, actor, name, version)


@get("/datasets/{name:str}/versions/{version:int}/files", permission="read", summary="A version's files")
async def list_files(context: Context, actor: Actor, name: str, version: int) -> list[DataFile]:
    """Parquet files, to be had from `/blobs/{digest}`."""
    return list((await context.read(service.get_version, actor, name, version)).files)


router = slice_router(
    "data",
    [
        put_dataset,
        list_datasets,
        describe_dataset,
        list_versions,
        commit_version,
        validate_files,
        get_version,
        list_files,
    ],
)
