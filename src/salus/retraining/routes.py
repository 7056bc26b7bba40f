"""Policies and retrainings over HTTP."""

from __future__ import annotations

from salus.kernel.identity import Actor
from salus.retraining import service
from salus.retraining.model import Policy, PutPolicy, Retrain, Retraining
from salus.web.context import Context
from salus.web.pagination import Page, check_limit
from salus.web.routing import IdempotencyKey, get, post, put, slice_router


@put("/policies/{model:str}", permission="operate", summary="Set a model's retraining policy")
async def put_policy(context: Context, actor: Actor, model: str, data: PutPolicy) -> Policy:
    """What is left out has its default."""
    return await context.write(service.put_policy, actor, model, data)


@get("/policies", permission="read", summary="All retraining policies")
async def list_policies(context: Context, actor: Actor) -> list[Policy]:
    """By model."""
    return await context.read(service.list_policies, actor)


@get("/policies/{model:str}", permission="read", summary="A model's retraining policy")
async def get_policy(context: Context, actor: Actor, model: str) -> Policy:
    """As it was set last."""
    return await context.read(service.get_policy, actor, model)


@post("/policies/{model:str}/retrain", permission="operate", summary="Retrain a model now")
async def retrain(
    context: Context, actor: Actor, model: str, data: Retrain, idempotency_key: IdempotencyKey = None
) -> Retraining:
    """The gate and the rollout are the policy's."""
    return await context.write_once(idempotency_key, Retraining, service.retrain, actor, data, model)


@get("/retrainings", permission="read", summary="Retrainings, newest first")
async def list_retrainings(
    context: Context, actor: Actor, model: str | None = None, limit: int = 100, cursor: str | None = None
) -> Page[Retraining]:
    """With trigger, candidate, comparison and every decision."""
    check_limit(limit)
    found = await context.read(service.list_retrainings, actor, model=model, before=cursor, limit=limit)
    return Page(items=found, next_cursor=found[-1].id if len(found) == limit else None)


@get("/retrainings/{retraining_id:str}", permission="read", summary="One retraining")
async def get_retraining(context: Context, actor: Actor, retraining_id: str) -> Retraining:
    """With every decision and what it was based on."""
    return await context.read(service.get_retraining, actor, retraining_id)


router = slice_router("retraining", [put_policy, list_policies, get_policy, retrain, list_retrainings, get_retraining])
