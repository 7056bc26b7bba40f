"""`salus runs`: experiments and runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from salus.kernel.clock import iso
from salus.kernel.settings import load_settings
from salus.sdk.session import Session
from salus.tracking.client import TrackingClient

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Experiments and runs.")
console = Console()

_ID_CHARS = 30


@app.command(name="list")
def list_runs(
    experiment: Annotated[str, typer.Option(help="Only of this experiment.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Runs, newest first."""
    found = TrackingClient(Session(load_settings())).runs(experiment or None, limit)
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table(Column("id", min_width=_ID_CHARS), "name", "state", "started", "metrics", box=None, pad_edge=False)
    for row in found:
        shown = ", ".join(
            f"{key}={value:.4g}"
            for key, value in row.metrics.items()
            if value is not None and not key.startswith("system/")
        )
        table.add_row(row.run.id, row.run.name, row.run.state, iso(row.run.started_ms), shown)
    console.print(table)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """One run: parameters, metrics, artifacts, where it came from."""
    found = TrackingClient(Session(load_settings())).get(run)
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    console.print(f"{found.run.name} ({found.run.id}), {found.run.state}, experiment {found.experiment}")
    console.print(f"started {iso(found.run.started_ms)} by {found.run.created_by}")
    table = Table("kind", "name", "value", box=None, pad_edge=False)
    for key, value in found.parameters.items():
        table.add_row("parameter", key, value)
    for metric in found.metrics:
        table.add_row("metric", metric.key, f"{metric.value} (step {metric.step}, {metric.points} points)")
    for artifact in found.artifacts:
        table.add_row("artifact", artifact.path, f"{artifact.size_bytes:,} bytes")
    for key, value in found.tags.items():
        table.add_row("tag", key, value)
    console.print(table)
