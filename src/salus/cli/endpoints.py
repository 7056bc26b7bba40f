"""`salus endpoints`: what is served, how it is rolled out, what became of its predictions."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput
from salus.kernel.settings import load_settings
from salus.sdk.session import Session
from salus.serving.client import EndpointsClient
from salus.serving.model.labels import Label
from salus.serving.model.rollouts import Criterion, Rollout, Strategy, StrategyKind

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Endpoints, rollouts, labels.")
console = Console()

Name = Annotated[str, typer.Argument(help="The endpoint's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it goes into the ledger.")]


def _client() -> EndpointsClient:
    return EndpointsClient(Session(load_settings()))


def _print_json(value: Any) -> None:
    console.print_json(msgspec.json.encode(value).decode())


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


@app.command(name="list")
def list_endpoints(json: AsJson = False) -> None:
    """All endpoints, with what they serve."""
    client = _client()
    found = [client.get(endpoint.name) for endpoint in client.list()]
    if json:
        _print_json(found)
        return
    table = _table("endpoint", "task", "serves", "shadows", "rollout")
    for detail in found:
        names = {revision.id: f"{revision.model}@{revision.version}" for revision in detail.revisions}
        split = ", ".join(f"{names[weight.revision]} {weight.share:.0%}" for weight in detail.split)
        shadows = ", ".join(names[revision] for revision in detail.endpoint.shadows)
        state = detail.rollout.state if detail.rollout else ""
        table.add_row(detail.endpoint.name, detail.endpoint.task or "", split or "nothing", shadows, state)
    console.print(table)


@app.command()
def show(name: Name, json: AsJson = False) -> None:
    """One endpoint: split, revisions, and the evidence of its last rollout."""
    client = _client()
    detail = client.get(name)
    history = client.rollouts(name, limit=10)
    if json:
        _print_json({"endpoint": detail, "rollouts": history})
        return
    shares = {weight.revision: weight.share for weight in detail.split}
    console.print(f"{name}, task {detail.endpoint.task or 'not known yet'}")
    table = _table("revision", "model", "live share", "role")
    for revision in detail.revisions:
        role = "live" if revision.id == detail.endpoint.live else ""
        role = "previous" if revision.id == detail.endpoint.previous else role
        role = f"{role} shadow".strip() if revision.id in detail.shadows else role
        share = f"{shares[revision.id]:.0%}" if revision.id in shares else ""
        table.add_row(revision.id, f"{revision.model}@{revision.version}", share, role)
    console.print(table)
    for rollout in history:
        _print_rollout(rollout)


def _print_rollout(rollout: Rollout) -> None:
    console.print(
        f"\n{rollout.id} {rollout.model}@{rollout.version}: {rollout.state} "
        f"({rollout.strategy.kind}, since {iso(rollout.started_ms)})"
    )
    if rollout.verdict is None:
        return
    console.print(f"  {rollout.verdict.decision}: {rollout.verdict.reason}", highlight=False)
    table = _table("  criterion", "difference", "interval", "margin", "n", "state")
    for criterion in rollout.verdict.criteria:
        table.add_row(f"  {criterion.name}", *_cells(criterion))
    console.print(table)


def _cells(criterion: Criterion) -> tuple[str, ...]:
    if criterion.value is None:
        return ("", "", f"{criterion.margin:.4g}", f"{criterion.n:,}", criterion.state)
    return (
        f"{criterion.value:+.4g} {criterion.unit}",
        f"[{criterion.low:+.4g}, {criterion.high:+.4g}]".replace("[", "\\["),
        f"{criterion.margin:.4g}",
        f"{criterion.n:,}",
        criterion.state,
    )


@app.command()
def deploy(
    name: Name,
    version: Annotated[str, typer.Argument(help="MODEL@VERSION, or MODEL@ALIAS.")],
    strategy: Annotated[str, typer.Option(help="canary, blue_green or all_at_once.")] = "canary",
    share: Annotated[float, typer.Option(help="The canary's first share of live requests.")] = 0.05,
    min_rows: Annotated[int, typer.Option(help="Labelled rows before a promotion.")] = 500,
    mirror: Annotated[bool, typer.Option(help="Let both models answer every request.")] = True,
    reason: Why = "",
    override: Annotated[bool, typer.Option(help="Deploy a version that is not approved.")] = False,
) -> None:
    """Bring a model version into service."""
    model, at, number = version.rpartition("@")
    if not at:
        raise InvalidInput(f"a version is MODEL@VERSION, got {version!r}", path="VERSION")
    kind = msgspec.convert(strategy, StrategyKind) if strategy in _KINDS else None
    if kind is None:
        raise InvalidInput(f"a strategy is one of {', '.join(_KINDS)}, got {strategy!r}", path="--strategy")
    wanted = Strategy(kind=kind, steps=(share,), min_rows=min_rows, mirror=mirror)
    rollout = _client().deploy(name, model, number, strategy=wanted, reason=reason, override=override)
    _print_rollout(rollout)


_KINDS = ("canary", "blue_green", "all_at_once")


@app.command()
def promote(name: Name, reason: Why = "") -> None:
    """Promote the challenger of the rollout under way."""
    client = _client()
    busy = client.get(name).rollout
    if busy is None:
        raise InvalidInput(f"no rollout is under way at {name}", remedy=f"See: salus endpoints show {name}")
    _print_rollout(client.promote(busy.id, reason))


@app.command()
def rollback(name: Name, reason: Why = "") -> None:
    """End the rollout under way; without one, go back to what was live before."""
    _print_rollout(_client().rollback(name, reason))


@app.command()
def shadow(
    name: Name, versions: Annotated[list[str] | None, typer.Argument(help="MODEL@VERSION ...; none ends it.")] = None
) -> None:
    """Choose the versions that answer every request unseen."""
    detail = _client().shadow(name, versions or [])
    names = {revision.id: f"{revision.model}@{revision.version}" for revision in detail.revisions}
    shown = ", ".join(names[revision] for revision in detail.endpoint.shadows)
    console.print(f"{name}: shadows {shown or 'none'}")


@app.command()
def label(
    name: Name,
    prediction: Annotated[str, typer.Argument(help="The prediction's id, or with --key the request's key.")],
    value: Annotated[str, typer.Argument(help="What it became: 0, 1, a number, a class.")],
    event_ms: Annotated[int, typer.Option(help="When that was known, milliseconds since 1970.")],
    key: Annotated[bool, typer.Option("--key", help="PREDICTION is the request's key.")] = False,
) -> None:
    """Say what became of one prediction."""
    named = {"key": prediction} if key else {"prediction_id": prediction}
    accepted = _client().label(name, [Label(value=_value(value), event_ms=event_ms, **named)])
    console.print(f"{accepted.recorded} recorded, {accepted.known} known, {accepted.pending} waiting")


def _value(text: str) -> int | float | str:
    """A whole number, a number, or the text itself.

    >>> _value("1"), _value("2.5"), _value("late")
    (1, 2.5, 'late')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
