"""`salus features`: feature views."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from salus.features.client import FeaturesClient
from salus.kernel.clock import iso
from salus.kernel.settings import load_settings
from salus.sdk.session import Session

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Feature views.")
console = Console()

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command(name="list")
def list_views(json: Json = False) -> None:
    """All feature views, by name."""
    found = _client().views()
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table("name", "entity", "keys", "features", "ttl", "rows", "newest", box=None, pad_edge=False)
    for view in found:
        newest = "-" if view.newest_event_ms is None else iso(view.newest_event_ms)
        ttl = "-" if view.ttl_s is None else f"{view.ttl_s:g} s"
        keys, features = ", ".join(view.key_names), str(len(view.features))
        table.add_row(view.name, view.entity, keys, features, ttl, f"{view.rows:,}", newest)
    console.print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="The view's name.")], json: Json = False) -> None:
    """One view: its columns, and how far each data plane has read the online state."""
    client = _client()
    view, status = client.view(name), client.online_status()
    if json:
        console.print_json(msgspec.json.encode({"view": view, "online": status}).decode())
        return
    ttl = "for ever" if view.ttl_s is None else f"for {view.ttl_s:g} s"
    console.print(f"{name}: {view.description or 'no description'}", highlight=False)
    console.print(f"{view.rows:,} rows of {view.entity}; a row holds {ttl}", highlight=False)
    table = Table("column", "type", "role", box=None, pad_edge=False)
    for column in view.keys:
        table.add_row(column.name, column.dtype, "key")
    table.add_row(view.event_time, "time", "event time")
    for column in view.features:
        table.add_row(column.name, column.dtype, "feature")
    console.print(table)
    for plane in status.planes:
        behind = status.cursor - plane.cursor
        console.print(f"data plane {plane.plane}: {behind:,} changes behind", highlight=False)


def _client() -> FeaturesClient:
    return FeaturesClient(Session(load_settings()))
