"""`salus pipelines`: deploy, run, watch, cancel, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput, SalusError
from salus.kernel.settings import load_settings
from salus.pipelines.client import PipelinesClient
from salus.pipelines.model import PipelineRunDetails, StepRun
from salus.pipelines.project import load_pipeline
from salus.sdk.session import Session

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Pipelines and their runs.")
console = Console()

_ID_CHARS = 30

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
RunId = Annotated[str, typer.Argument(help="The run's id.")]


def _client() -> PipelinesClient:
    return PipelinesClient(Session(load_settings()))


@app.command()
def deploy(
    entrypoint: Annotated[str, typer.Argument(help="path.py:function, relative to the project.")],
    project: Annotated[Path, typer.Option(help="The folder that workers run in.")] = Path("."),
) -> None:
    """Record a pipeline's graph and put it onto the server."""
    found = _client().deploy(load_pipeline(project, entrypoint), project)
    console.print(f"{found.name}, revision {found.revision}: {len(found.graph.steps)} steps")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="The pipeline's name.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="A parameter, as key=value.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit code 1 if it fails.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step.")] = False,
) -> None:
    """Start a run."""
    client = _client()
    values = parse_parameters(parameter or [])
    started = client.start(name, values, use_cache=not no_cache)
    console.print(started.id)
    if not wait:
        return
    watch = _Watch()
    done = client.wait(started.id, watch=watch.look)
    if done.run.state != "succeeded":
        raise SalusError(
            f"{done.run.id} {done.run.state}: {done.run.error}",
            remedy=f"Look at it: salus pipelines show {done.run.id}",
        )


def parse_parameters(given: list[str]) -> dict[str, Any]:
    """`key=value` pairs; a value that is JSON is read as JSON, any other as text.

    >>> parse_parameters(["depth=3", "name=a b"])
    {'depth': 3, 'name': 'a b'}
    """
    values: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InvalidInput(f"a parameter is key=value, got {pair!r}", path="-p")
        try:
            values[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[key] = text
    return values


class _Watch:
    """Prints a line whenever a step's state changes."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def look(self, found: PipelineRunDetails) -> None:
        for step in found.steps:
            if self._seen.get(step.step, "waiting") != step.state:
                self._seen[step.step] = step.state
                console.print(f"{step.step}: {step.state}{' (cached)' if step.cached else ''}")


@app.command(name="list")
def list_pipelines(json: AsJson = False) -> None:
    """All pipelines."""
    found = _client().list()
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table("name", "revision", "steps", "entrypoint", "updated", box=None, pad_edge=False)
    for pipeline in found:
        table.add_row(
            pipeline.name,
            str(pipeline.revision),
            str(len(pipeline.graph.steps)),
            pipeline.entrypoint,
            iso(pipeline.updated_ms),
        )
    console.print(table)


@app.command()
def runs(
    pipeline: Annotated[str, typer.Option(help="Only of this pipeline.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    json: AsJson = False,
) -> None:
    """Runs, newest first."""
    found = _client().runs(pipeline or None, limit)
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table(
        Column("id", min_width=_ID_CHARS), "pipeline", "state", "steps", "started", "error", box=None, pad_edge=False
    )
    for row in found:
        done = f"{row.steps_done}/{row.steps}"
        table.add_row(row.id, row.pipeline, row.state, done, iso(row.created_ms), (row.error or "")[:80])
    console.print(table)


@app.command()
def show(run: RunId, json: AsJson = False) -> None:
    """One run with its steps."""
    _print(_client().show(run), as_json=json)


@app.command()
def cancel(run: RunId) -> None:
    """Stop a run."""
    _print(_client().cancel(run), as_json=False)


@app.command()
def resume(run: RunId) -> None:
    """Let a failed or cancelled run go on; finished steps are kept."""
    _print(_client().resume(run), as_json=False)


def _print(found: PipelineRunDetails, *, as_json: bool) -> None:
    if as_json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    run = found.run
    console.print(f"{run.id} of {run.pipeline}: {run.state}, started {iso(run.created_ms)} by {run.started_by}")
    table = Table("step", "state", "attempts", "seconds", "note", box=None, pad_edge=False)
    for step in found.steps:
        table.add_row(step.step, step.state, str(step.attempts), _seconds(step), _note(step))
    console.print(table)
    for step in found.steps:
        if step.state == "failed":
            console.print(f"\n{step.step}:\n{step.traceback or step.error}", markup=False)
            if step.log_tail:
                console.print(f"printed:\n{step.log_tail}", markup=False)


def _seconds(step: StepRun) -> str:
    if step.started_ms is None or step.finished_ms is None:
        return ""
    return f"{(step.finished_ms - step.started_ms) / 1000:.1f}"


def _note(step: StepRun) -> str:
    if step.cached:
        return "from the cache"
    if step.state == "running" and step.progress_ratio is not None:
        return f"{step.progress_ratio:.0%} {step.progress_text or ''}"
    return (step.error or "")[:100]
