"""`salus models`: registered models."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput
from salus.kernel.settings import load_settings
from salus.registry.client import RegistryClient
from salus.registry.model import ModelVersion
from salus.sdk.session import Session

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Registered models.")
console = Console()

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
_WORDS = {True: "passed", False: "failed", None: "cannot tell"}


@app.command(name="list")
def list_models(json: Json = False) -> None:
    """All models, by name."""
    found = _client().list(limit=1_000)
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table("name", "newest", "versions", "aliases", "approval", "changed", box=None, pad_edge=False)
    for model in found:
        aliases = ", ".join(f"{alias}={version}" for alias, version in model.aliases.items())
        changed = iso(model.updated_ms)
        table.add_row(model.name, model.latest_version or "-", str(model.versions), aliases, model.approval, changed)
    console.print(table)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="The model's name, or NAME@VERSION, or NAME@ALIAS.")],
    json: Json = False,
) -> None:
    """A model and its versions; or one version: metrics, gates, files, origin."""
    client = _client()
    name, at, version = model.partition("@")
    if at:
        found = client.version(name, version)
        if json:
            console.print_json(msgspec.json.encode(found).decode())
        else:
            _print_version(found)
        return
    versions = client.versions(name)
    if json:
        whole = {"model": client.get(name), "versions": versions}
        console.print_json(msgspec.json.encode(whole).decode())
        return
    table = Table("version", "state", "flavour", "metrics", "aliases", "registered", box=None, pad_edge=False)
    for row in versions:
        metrics = ", ".join(f"{key}={value:.4g}" for key, value in row.metrics.items())
        aliases = ", ".join(row.aliases)
        table.add_row(row.version, row.state, row.flavour, metrics, aliases, iso(row.created_ms))
    console.print(table)


@app.command()
def approve(
    version: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why.")],
    reject: Annotated[bool, typer.Option("--reject", help="Reject it instead.")] = False,
) -> None:
    """Approves (or rejects) a version, with a reason that the ledger keeps."""
    name, number = _split(version)
    found = _client().decide(name, number, "rejected" if reject else "approved", reason)
    console.print(f"{name}@{found.version} is {found.state}", highlight=False)


@app.command()
def alias(
    version: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    alias: Annotated[str, typer.Argument(help="The alias, such as champion.")],
) -> None:
    """Lets an alias name a version."""
    name, number = _split(version)
    found = _client().alias(name, alias, number)
    console.print(f"{name}: {alias} is {found.aliases[alias]}", highlight=False)


def _client() -> RegistryClient:
    return RegistryClient(Session(load_settings()))


def _split(text: str) -> tuple[str, str]:
    name, at, version = text.partition("@")
    if not at or not name or not version:
        raise InvalidInput(f"a version is named NAME@VERSION, got {text!r}", path="VERSION")
    return name, version


def _print_version(found: ModelVersion) -> None:
    console.print(f"{found.model}@{found.version}, {found.state}, {found.flavour}", highlight=False)
    if found.approval is not None:
        console.print(f"{found.approval.decision} by {found.approval.by}: {found.approval.reason}", highlight=False)
    table = Table("kind", "name", "value", box=None, pad_edge=False)
    for key, value in found.metrics.items():
        table.add_row("metric", key, f"{value:.6g}")
    for column in found.signature.inputs.columns:
        table.add_row("input", column.name, column.dtype + (" or missing" if column.nullable else ""))
    for column in found.signature.outputs.columns:
        table.add_row("output", column.name, column.dtype)
    for gate in found.gates:
        table.add_row("gate", gate.name, f"{_WORDS[gate.passed]} {gate.reason}".strip())
    for file in found.files:
        table.add_row("file", file.path, f"{file.size_bytes:,} bytes" + (", executable" if file.executable else ""))
    for origin in (*found.datasets, *found.features, *filter(None, (found.run_id, found.pipeline_run))):
        table.add_row("origin", origin, "")
    console.print(table)
