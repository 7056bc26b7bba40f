"""Models over HTTP."""

from __future__ import annotations

import asyncio

from salus.kernel.identity import Actor
from salus.kernel.sql import Transaction
from salus.registry import intake, service
from salus.registry.model import (
    CheckGates,
    Decide,
    Model,
    ModelVersion,
    MoveAlias,
    NewModelVersion,
    PutModel,
)
from salus.web.context import Context
from salus.web.pagination import Page, check_limit
from salus.web.routing import IdempotencyKey, get, post, put, slice_router


@put("/models/{name:str}", permission="write", summary="Declare a model: description, tags, approval rule")
async def put_model(context: Context, actor: Actor, name: str, data: PutModel) -> Model:
    """Made if it is not there; a field that is left out stays as it is."""
    return await context.write(service.put_model, actor, name, data)


@get("/models", permission="read", summary="Models by name")
async def list_models(context: Context, actor: Actor, limit: int = 100, cursor: str | None = None) -> Page[Model]:
    """With their aliases and newest versions."""
    check_limit(limit)
    found = await context.read(service.list_models, actor, after=cursor or "", limit=limit)
    return Page(items=found, next_cursor=found[-1].name if len(found) == limit else None)


@get("/models/{name:str}", permission="read", summary="A model")
async def get_model(context: Context, actor: Actor, name: str) -> Model:
    """With its aliases and newest version."""
    return await context.read(service.get_model, actor, name)


@post("/models/{name:str}/versions", permission="write", summary="Register a version")
async def register_version(
    context: Context,
    actor: Actor,
    name: str,
    data: NewModelVersion,
    idempotency_key: IdempotencyKey = None,
) -> ModelVersion:
    """The next semantic version, as a candidate. Its files must have been uploaded as blobs."""
    files = await asyncio.to_thread(intake.inspect_files, context.blobs, data)

    def register(tx: Transaction, actor: Actor, name: str, body: NewModelVersion) -> ModelVersion:
        return service.register_version(tx, actor, name, body, files)

    return await context.write_once(idempotency_key, ModelVersion, register, actor, data, name)


@get("/models/{name:str}/versions", permission="read", summary="All versions of a model")
async def list_versions(context: Context, actor: Actor, name: str) -> list[ModelVersion]:
    """The highest number first."""
    return await context.read(service.list_versions, actor, name)


@get("/models/{name:str}/versions/{version:str}", permission="read", summary="A version")
async def get_version(context: Context, actor: Actor, name: str, version: str) -> ModelVersion:
    """By its number or an alias."""
    return await context.read(service.get_version, actor, name, version)


@post("/models/{name:str}/versions/{version:str}/gates", permission="write", summary="Record what gates found")
async def check_gates(context: Context, actor: Actor, name: str, version: str, data: CheckGates) -> ModelVersion:
    """The model's policy then approves or rejects the version, unless a person has to or has done so."""
    return await context.write(service.check_gates, actor, name, version, data)


@post("/models/{name:str}/versions/{version:str}/approval", permission="operate", summary="Approve or reject")
async def decide(context: Context, actor: Actor, name: str, version: str, data: Decide) -> ModelVersion:
    """A person's decision, with a reason."""
    return await context.write(service.decide, actor, name, version, data, context.gate)


@put("/models/{name:str}/aliases/{alias:str}", permission="operate", summary="Let an alias name a version")
async def move_alias(context: Context, actor: Actor, name: str, alias: str, data: MoveAlias) -> Model:
    """Only an approved version can be the champion."""
    return await context.write(service.move_alias, actor, name, alias, data, context.gate)


router = slice_router(
    "registry",
    [
        put_model,
        list_models,
        get_model,
        register_version,
        list_versions,
        get_version,
        check_gates,
        decide,
        move_alias,
    ],
)
