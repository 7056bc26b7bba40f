"""The command line. Each group is loaded when it is used, so that `salus --help` is quick."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from salus.kernel.errors import SalusError

if TYPE_CHECKING:
    from typer._click import Command, Context

_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("salus.cli.up:up", "Start everything on this machine."),
    "down": ("salus.cli.up:down", "Stop what 'salus up' started."),
    "status": ("salus.cli.up:status", "What runs, and where."),
    "demo": ("salus.cli.demo:demo", "A year of real flights: a model kept healthy, start to end."),
    "server": ("salus.cli.server:server", "Run the control plane: API, page, scheduler, monitors."),
    "serve": ("salus.cli.serve:serve", "Run a data plane: it answers predictions."),
    "worker": ("salus.cli.worker:worker", "Run a worker: it runs pipelines."),
    "doctor": ("salus.cli.doctor:doctor", "Say how a model is, why, and what to do."),
    "audit": ("salus.cli.audit:app", "The ledger: what happened, and proof of it."),
    "token": ("salus.cli.token:app", "Access tokens."),
    "runs": ("salus.cli.runs:app", "Experiments and runs."),
    "data": ("salus.cli.data:app", "Datasets and their versions."),
    "features": ("salus.cli.features:app", "Feature views."),
    "models": ("salus.cli.models:app", "Registered models."),
    "pipelines": ("salus.cli.pipelines:app", "Pipelines and their runs."),
    "endpoints": ("salus.cli.endpoints:app", "Endpoints, rollouts, labels."),
    "policies": ("salus.cli.policies:app", "Retraining policies."),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and loads one only when it is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        """The names, in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """A stand-in that carries the one line of help; `resolve_command` gives the true one."""
        return TyperCommand(cmd_name, help=_COMMANDS[cmd_name][1]) if cmd_name in _COMMANDS else None

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """The command that is called, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name is not None and name in _COMMANDS else command, rest


def _load(name: str) -> Command:
    module, _, attribute = _COMMANDS[name][0].partition(":")
    found: Any = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False)
    single.command(name=name)(found)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Salus, the doctor of your models.",
)


@app.callback()
def root() -> None:
    """Salus, the doctor of your models."""


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or invalid input."""
    try:
        app()
    except SalusError as error:
        sys.stderr.write(f"salus: {error}\n")
        sys.exit(2 if error.status == 422 else 1)
