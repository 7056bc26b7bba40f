"""`salus doctor`: how a model is, why, and what to do."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from salus.kernel.clock import iso
from salus.kernel.errors import NotFound
from salus.kernel.settings import load_settings
from salus.monitoring.client import MonitoringClient
from salus.monitoring.model.watches import Patient
from salus.sdk.session import Session

console = Console()

_STATE = {
    "healthy": "[green]✓ healthy[/green]",
    "watch": "[yellow]… watch[/yellow]",
    "broken_input": "[red]✗ broken input[/red]",
    "sick": "[red]✗ sick[/red]",
    "unknown": "? not examined yet",
}


def doctor(
    model: Annotated[str, typer.Argument(help="A model or an endpoint; all where it is left out.")] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say how a model is, why, and what to do."""
    client = MonitoringClient(Session(load_settings()))
    patients = [found for found in client.ward() if model in ("", found.model, found.endpoint)]
    if not patients:
        raise NotFound(
            f"no endpoint that is watched serves {model!r}" if model else "nothing is watched yet",
            remedy="Deploy a version: salus endpoints deploy ENDPOINT MODEL@VERSION.",
        )
    if json:
        diagnoses = [client.diagnosis(found.endpoint) for found in patients]
        console.print_json(msgspec.json.encode(diagnoses).decode())
        return
    for patient in patients:
        _show(client, patient)


def _show(client: MonitoringClient, patient: Patient) -> None:
    told = client.diagnosis(patient.endpoint)
    console.print(f"[bold]{patient.model} {patient.version}[/bold] at {patient.endpoint}: {_STATE[patient.condition]}")
    console.print(_signs(patient))
    console.print(told.text, highlight=False)
    for advice in told.advice:
        console.print(f"  - {advice}", highlight=False)
    for segment in told.segments:
        console.print(f"  where {segment.rule}: {segment.excess} above what was expected", highlight=False)
    if told.cause is not None:
        console.print(f"  confidence: {told.confidence}", highlight=False)


def _signs(patient: Patient) -> Table:
    table = Table("vital sign", "value", "reference", box=None, pad_edge=False)
    mature, latest = patient.latest_mature, patient.latest
    if mature is not None:
        table.add_row("window with labels", f"{iso(mature.start_ms)} to {iso(mature.end_ms)}", "")
        table.add_row("labels", f"{mature.labelled:,} of {mature.rows:,}", "")
        if mature.label_delay_s is not None:
            table.add_row("labels come after", f"{mature.label_delay_s / 3600:.1f} h", "")
        for name, estimate in mature.metrics.items():
            known = patient.reference_metrics.get(name)
            table.add_row(name.replace("_", " "), str(estimate), "" if known is None else f"{known:.4g}")
    if latest is None:
        return table
    table.add_row("broken columns", ", ".join(latest.broken) or "none", "")
    beyond = [f"{moved.column} ({moved.distance:.2f} {moved.unit})" for moved in latest.movements
              if moved.excess is not None and moved.excess >= 1]  # fmt: skip
    table.add_row("moved beyond chance", ", ".join(beyond[:3]) or "none", "")
    if latest.service is not None:
        p50, p99 = latest.service.latency_p50_ms, latest.service.latency_p99_ms
        if p50 is not None and p99 is not None:
            table.add_row("latency", f"{p50:.2f} ms, slowest 1 %: {p99:.2f} ms", "")
        if latest.service.error_ratio is not None:
            table.add_row("errors", str(latest.service.error_ratio), "")
    return table
