"""`salus token`: access tokens."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from salus.kernel import tokens
from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput
from salus.kernel.identity import Actor, Role
from salus.kernel.settings import load_settings
from salus.server.wiring import open_context

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Access tokens.")
console = Console()

_ID_CHARS = 26


@app.command()
def create(
    principal: Annotated[str, typer.Argument(help="Whom it is for.")],
    role: Annotated[str, typer.Option(help="viewer, editor, operator or admin.")] = "viewer",
) -> None:
    """Make a token, straight in the database of this machine: whoever can open it may."""
    try:
        checked = msgspec.convert(role, Role)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"a role is viewer, editor, operator or admin, got {role!r}", path="--role") from error
    settings = load_settings()
    database = open_context(settings).database
    try:
        actor = Actor(principal="local", role="admin", workspace=settings.workspace)
        made, text = database.write(lambda tx: tokens.create_token(tx, actor, principal, checked, settings.workspace))
    finally:
        database.close()
    console.print(f"Token {made.id} for {principal} ({role}). It is shown this once:")
    console.print(text, soft_wrap=True)


@app.command(name="list")
def list_tokens() -> None:
    """All tokens, without their secrets."""
    settings = load_settings()
    database = open_context(settings).database
    try:
        actor = Actor(principal="local", role="admin", workspace=settings.workspace)
        found = database.read(lambda reader: tokens.list_tokens(reader, actor))
    finally:
        database.close()
    table = Table(Column("id", min_width=_ID_CHARS), "principal", "role", "made", "revoked", box=None, pad_edge=False)
    for token in found:
        revoked = iso(token.revoked_ms) if token.revoked_ms else ""
        table.add_row(token.id, token.principal, token.role, iso(token.created_ms), revoked)
    console.print(table)


@app.command()
def revoke(token: Annotated[str, typer.Argument(help="The token's id.")]) -> None:
    """End a token's power at once."""
    settings = load_settings()
    database = open_context(settings).database
    try:
        actor = Actor(principal="local", role="admin", workspace=settings.workspace)
        database.write(lambda tx: tokens.revoke_token(tx, actor, token))
    finally:
        database.close()
    console.print(f"Revoked {token}.")
