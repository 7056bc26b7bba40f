"""`salus audit`: the ledger, and proof that nobody rewrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from salus.backends.addresses import open_database
from salus.kernel import ledger
from salus.kernel.clock import iso
from salus.kernel.errors import Corrupt, NotFound
from salus.kernel.ledger import Entry
from salus.kernel.settings import load_settings
from salus.sdk.session import Session, path
from salus.web.pagination import Page

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The ledger: what happened, and proof of it.")
console = Console()


@app.command()
def verify(
    expect_root: Annotated[str, typer.Option(help="A Merkle root that was kept elsewhere.")] = "",
    expect_entries: Annotated[int, typer.Option(help="How many entries that root covers.")] = 0,
) -> None:
    """Recompute the whole hash chain from the database itself; exit code 1 if anything was changed."""
    settings = load_settings()
    if settings.database.startswith("sqlite:///") and not _exists(settings.database):
        raise NotFound(f"there is no database at {settings.database}", remedy="Set SALUS_HOME or SALUS_DATABASE.")
    database = open_database(settings.database)
    try:
        verdict = database.read(lambda reader: ledger.verify(reader, upto=expect_entries or None))
    finally:
        database.close()
    if expect_root and verdict.root != expect_root:
        raise Corrupt(f"the root over {verdict.entries} entries is {verdict.root}, expected {expect_root}")
    console.print(f"The chain of {verdict.entries:,} entries is whole.")
    console.print(f"head {verdict.head}\nroot {verdict.root}", soft_wrap=True)


@app.command(name="list")
def list_entries(
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 30,
    kind: Annotated[str, typer.Option(help="Only this kind of event.")] = "",
    subject: Annotated[str, typer.Option(help="Only about this, as in model_version:m@1.0.0.")] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What happened, newest first."""
    query = {"limit": limit, "kind": kind or None, "subject": subject or None, "newest_first": True}
    session = Session(load_settings())
    page = session.call("GET", path("ledger"), query=query, expect=Page[Entry])
    if json:
        console.print_json(msgspec.json.encode(page.items).decode())
        return
    table = Table("seq", "time", "event", "subject", "actor", box=None, pad_edge=False)
    for entry in page.items:
        table.add_row(str(entry.seq), iso(entry.at_ms), entry.kind, entry.subject, entry.actor)
    console.print(table)


def _exists(address: str) -> bool:
    return Path(address.removeprefix("sqlite:///")).is_file()
