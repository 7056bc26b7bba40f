"""The ledger, the lineage and the live feed over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from salus.kernel import ledger, lineage, tokens
from salus.kernel.errors import InvalidInput
from salus.kernel.identity import Actor, Role
from salus.kernel.ledger import Entry, Verdict
from salus.kernel.lineage import Graph
from salus.kernel.structs import Record, Value
from salus.kernel.tokens import Token
from salus.web.context import Context
from salus.web.pagination import Page, check_limit, number_cursor
from salus.web.routing import delete, get, post, slice_router

_DEPTH_LIMIT = 12


@get("/ledger", permission="read", summary="What happened: the ledger's entries")
async def list_entries(
    context: Context,
    actor: Actor,
    after: int = 0,
    limit: int = 100,
    kind: list[str] | None = None,
    subject: str | None = None,
    newest_first: bool = False,
) -> Page[Entry]:
    """Entries of the workspace, filtered by kind and subject."""
    check_limit(limit)
    entries = await context.read(
        ledger.read,
        after=after,
        limit=limit,
        workspace=actor.workspace,
        kinds=kind or (),
        subject=subject,
        newest_first=newest_first,
    )
    more = len(entries) == limit
    return Page(items=entries, next_cursor=str(entries[-1].seq) if more else None)


@get("/ledger/verify", permission="read", summary="Recompute the whole hash chain")
async def verify_ledger(context: Context, actor: Actor) -> Verdict:
    """The verdict; 500 `corrupt` when the chain is broken."""
    return await context.read(ledger.verify)


@get("/lineage", permission="read", summary="What a thing came from and what came from it")
async def show_lineage(context: Context, actor: Actor, node: str, depth: int = 4) -> Graph:
    """The graph around `node`."""
    if not 1 <= depth <= _DEPTH_LIMIT:
        raise InvalidInput(f"depth must be between 1 and {_DEPTH_LIMIT}, got {depth}", path="depth")
    return await context.read(lineage.graph, actor, node, depth)


@get("/live", permission="read", summary="The live feed, as server-sent events")
async def listen(
    context: Context,
    actor: Actor,
    last_event_id: Annotated[str | None, Parameter(header="Last-Event-ID")] = None,
) -> ServerSentEvent:
    """Each ledger entry of the workspace as it happens; `Last-Event-ID` resumes."""
    after = None if last_event_id is None else number_cursor(last_event_id, "Last-Event-ID")

    async def messages() -> AsyncIterator[ServerSentEventMessage]:
        yield ServerSentEventMessage(comment="salus", retry=1_000)
        async for signal in context.live.listen(actor.workspace, after):
            if signal is None:
                yield ServerSentEventMessage(comment="still here")
                continue
            yield ServerSentEventMessage(
                data=msgspec.json.encode(signal.data).decode(),
                event=signal.kind,
                id=None if signal.seq is None else str(signal.seq),
            )

    return ServerSentEvent(messages())


class CreateToken(Value):
    """Whom the token is for, and what it may do."""

    principal: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    role: Role = "viewer"


class CreatedToken(Record):
    """The new token; `text` is shown this once."""

    token: Token
    text: str


@post("/tokens", permission="admin", summary="Make an access token")
async def create_token(context: Context, actor: Actor, data: CreateToken) -> CreatedToken:
    """The token's text cannot be had again."""
    token, text = await context.write(tokens.create_token, actor, data.principal, data.role, actor.workspace)
    return CreatedToken(token=token, text=text)


@get("/tokens", permission="admin", summary="All tokens, without their secrets")
async def list_tokens(context: Context, actor: Actor) -> list[Token]:
    """Newest first."""
    return await context.read(tokens.list_tokens, actor)


@delete("/tokens/{token:str}", permission="admin", summary="Revoke a token")
async def revoke_token(context: Context, actor: Actor, token: str) -> None:
    """It lets nobody in any more, from now on."""
    await context.write(tokens.revoke_token, actor, token)


router = slice_router(
    "ledger",
    [list_entries, verify_ledger, show_lineage, listen, create_token, list_tokens, revoke_token],
)
