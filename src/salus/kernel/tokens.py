"""Access tokens: shown once, stored as a hash, scoped to a role and a workspace, revocable at once.

A token reads `salus_<id>_<secret><checksum>`: the prefix lets secret scanners find it, the checksum lets a client
refuse a mistyped one without asking the server.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib

import sqlalchemy as sa

from salus.kernel.errors import NotFound, Unauthenticated
from salus.kernel.identity import Actor, Role
from salus.kernel.ids import new_id
from salus.kernel.sql import Event, Id, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("principal", Name, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("revoked_ms", Ms),
)


class Token(Record):
    """What is known of a token; its secret is not."""

    id: str
    principal: str
    role: Role
    workspace: str
    created_ms: int
    revoked_ms: int | None = None


class TokenCreated(Event):
    """A token was made for `principal`."""

    token: str
    principal: str
    role: str


class TokenRevoked(Event):
    """A token lets nobody in any more."""

    token: str


def create_token(tx: Transaction, actor: Actor, principal: str, role: Role, workspace: str) -> tuple[Token, str]:
    """A new token and its text, which cannot be had again."""
    actor.require("admin")
    token_id = new_id("tok").removeprefix("tok_")
    secret = secrets.token_urlsafe(24).replace("_", "-")
    body = f"salus_{token_id}_{secret}"
    text = body + _checksum(body)
    token = Token(id=token_id, principal=principal, role=role, workspace=workspace, created_ms=tx.now_ms)
    row = {name: getattr(token, name) for name in token.__struct_fields__}
    tx.execute(sa.insert(tokens).values(**row, hash=_hash(text)))
    tx.emit(actor, f"token:{token_id}", TokenCreated(token=token_id, principal=principal, role=role))
    return token, text


def list_tokens(reader: Reader, actor: Actor) -> list[Token]:
    """All tokens of the workspace, newest first."""
    columns = [tokens.c[name] for name in Token.__struct_fields__]
    query = sa.select(*columns).where(tokens.c.workspace == actor.workspace).order_by(tokens.c.id.desc())
    return reader.records(Token, query)


def revoke_token(tx: Transaction, actor: Actor, token_id: str) -> None:
    """Ends the token's power at once. Raises `NotFound`."""
    actor.require("admin")
    changed = tx.execute(
        sa.update(tokens)
        .where(tokens.c.id == token_id, tokens.c.workspace == actor.workspace)
        .values(revoked_ms=tx.now_ms)
    )
    if not changed.rowcount:
        raise NotFound(f"there is no token {token_id}", remedy="List the tokens with: salus token list")
    tx.emit(actor, f"token:{token_id}", TokenRevoked(token=token_id))


def authenticate(reader: Reader, text: str) -> Actor:
    """Who holds this token.

    Raises:
        Unauthenticated: it is malformed, unknown or revoked; which of these is not said.
    """
    refused = Unauthenticated("the token is not valid", remedy="Ask an admin for a new one: salus token create")
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "salus" or text[-8:] != _checksum(text[:-8]):
        raise refused
    row = reader.row(sa.select(tokens).where(tokens.c.id == parts[1]))
    if row is None or row["revoked_ms"] is not None or not hmac.compare_digest(row["hash"], _hash(text)):
        raise refused
    return Actor(principal=row["principal"], role=row["role"], workspace=row["workspace"])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
