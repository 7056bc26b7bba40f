"""`salus policies`: when models are retrained, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput
from salus.kernel.settings import load_settings
from salus.kernel.structs import decode_json
from salus.retraining.client import RetrainingClient
from salus.retraining.model import PutPolicy
from salus.sdk.session import Session

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Retraining policies.")
console = Console()

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def _client() -> RetrainingClient:
    return RetrainingClient(Session(load_settings()))


@app.command(name="list")
def list_policies(json: AsJson = False) -> None:
    """All policies."""
    found = _client().policies()
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table("model", "endpoint", "pipeline", "check-up", "cooldown", "automatic", box=None, pad_edge=False)
    for policy in found:
        body = policy.body
        checkup = "never" if body.checkup_s is None else f"{body.checkup_s / 86_400:g} d"
        automatic = "paused" if body.paused else "yes" if body.automatic else "asks a person"
        cooldown = f"{body.cooldown_s / 86_400:g} d"
        table.add_row(policy.model, policy.endpoint, body.pipeline, checkup, cooldown, automatic)
    console.print(table)


@app.command()
def show(model: Annotated[str, typer.Argument(help="The model.")]) -> None:
    """One policy, as JSON that `put --file` takes."""
    console.print_json(msgspec.json.encode(_client().policy(model).body).decode())


@app.command()
def put(
    model: Annotated[str, typer.Argument(help="The model.")],
    file: Annotated[Path | None, typer.Option(help="A JSON file with the policy.")] = None,
    pipeline: Annotated[str, typer.Option(help="The pipeline to start; everything else has its default.")] = "",
) -> None:
    """Set a model's policy."""
    if (file is None) == (pipeline == ""):
        raise InvalidInput("give the policy by --file or --pipeline, one of the two", path="--file")
    body = PutPolicy(pipeline=pipeline) if file is None else decode_json(file.read_bytes(), PutPolicy)
    policy = _client().put_policy(model, body)
    console.print(f"{model} is retrained by {policy.body.pipeline} (revision {policy.revision} of its policy)")


@app.command()
def retrain(
    model: Annotated[str, typer.Argument(help="The model.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Retrain a model now."""
    found = _client().retrain(model, reason)
    console.print(f"{found.id}: {found.pipeline_run} trains a challenger of {model} {found.champion}")


@app.command()
def history(
    model: Annotated[str, typer.Argument(help="The model.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    json: AsJson = False,
) -> None:
    """What came of alarms and check-ups, with the reasons."""
    found = _client().retrainings(model or None, limit)
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table("event time", "model", "trigger", "state", "candidate", "reason", box=None, pad_edge=False)
    for item in found:
        trigger = item.trigger.cause or item.trigger.kind
        table.add_row(iso(item.now_ms)[:10], item.model, trigger, item.state, item.candidate or "-", item.reason)
    console.print(table)
