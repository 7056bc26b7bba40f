"""`salus data`: datasets and their versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from salus.data.client import DataClient
from salus.data.expectations import law_of
from salus.data.model import ColumnProfile, Mode, ValidationReport
from salus.data.validation import refusal
from salus.kernel.clock import iso
from salus.kernel.errors import InvalidInput, SalusError
from salus.kernel.settings import load_settings
from salus.sdk.session import Session

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Datasets and their versions.")
console = Console()

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Name = Annotated[str, typer.Argument(help="The dataset's name.")]
File = Annotated[Path, typer.Argument(help="A Parquet, CSV or JSON-lines file.")]

_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": pl.read_ndjson,
    ".ndjson": pl.read_ndjson,
}


@app.command(name="list")
def list_datasets(json: Json = False) -> None:
    """All datasets, by name."""
    found = _client().list(limit=1_000)
    if json:
        console.print_json(msgspec.json.encode(found).decode())
        return
    table = Table("name", "version", "columns", "expectations", "changed", "description", box=None, pad_edge=False)
    for row in found:
        columns = str(len(row.schema.columns)) if row.schema else "-"
        table.add_row(
            row.name,
            str(row.latest_version or "-"),
            columns,
            str(len(row.expectations)),
            iso(row.updated_ms),
            row.description,
        )
    console.print(table)


@app.command()
def show(
    name: Name,
    version: Annotated[int, typer.Option(help="A version; the newest by default.")] = 0,
    json: Json = False,
) -> None:
    """One dataset: its laws, its versions, and what a version's batch holds, column by column."""
    client = _client()
    detail = client.get(name)
    shown = client.version(name, version or None) if version or detail.versions else None
    if json:
        console.print_json(msgspec.json.encode({"detail": detail, "version": shown}).decode())
        return
    console.print(f"{name}: {detail.dataset.description or 'no description'}", highlight=False)
    for expectation in detail.dataset.expectations:
        console.print(f"  expects that {law_of(expectation)}", highlight=False, markup=False)
    versions = Table("version", "rows", "added", "mode", "by", "at", "message", box=None, pad_edge=False)
    for row in detail.versions[:20]:
        rows, added = f"{row.rows:,}", f"{row.added_rows:,}"
        versions.add_row(str(row.version), rows, added, row.mode, row.created_by, iso(row.created_ms), row.message)
    console.print(versions)
    if shown is not None:
        console.print(f"\nThe batch of version {shown.version}, {shown.added_rows:,} rows:", highlight=False)
        console.print(_profile(shown.profile.columns))


@app.command()
def commit(
    name: Name,
    file: File,
    message: Annotated[str, typer.Option("--message", "-m", help="What is new.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of all rows before.")] = False,
    infer: Annotated[bool, typer.Option("--infer", help="Infer expectations from this batch.")] = False,
) -> None:
    """Commits a file as a new version, or says which laws it breaks."""
    mode: Mode = "replace" if replace else "append"
    try:
        made = _client().commit(name, _read(file), message=message, mode=mode, expectations="infer" if infer else None)
    except InvalidInput as error:
        _explain(error)
        raise
    console.print(
        f"{name}@{made.version}: {made.added_rows:,} rows added, {made.rows:,} in all, {made.digest}",
        highlight=False,
    )


@app.command()
def validate(name: Name, file: File, json: Json = False) -> None:
    """Says which laws a file would break; nothing is written. Exit code 2 when it breaks one."""
    report = _client().validate(name, _read(file))
    if json:
        console.print_json(msgspec.json.encode(report).decode())
    elif report.passed:
        console.print(f"{report.rows:,} rows, {report.checked} laws checked: none is broken", highlight=False)
    if not report.passed:
        if not json:
            _print_report(report)
        raise refusal(report)


def _client() -> DataClient:
    return DataClient(Session(load_settings()))


def _read(file: Path) -> pl.DataFrame:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise InvalidInput(f"a table is a file of {', '.join(_READERS)}, got {file.name}", path="FILE")
    try:
        return reader(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(f"{file} cannot be read: {str(error).splitlines()[0]}", path="FILE") from error


def _explain(error: SalusError) -> None:
    try:
        report = msgspec.convert(error.details, ValidationReport)
    except msgspec.ValidationError:
        return
    _print_report(report)


def _print_report(report: ValidationReport) -> None:
    table = Table("column", "law", "observed", "examples", box=None, pad_edge=False)
    for found in report.violations:
        examples = ", ".join(f"row {example.row}: {example.value!r}" for example in found.examples[:3])
        table.add_row(found.column or "-", found.law, found.observed, examples)
    console.print(table)


def _profile(columns: tuple[ColumnProfile, ...]) -> Table:
    table = Table("column", "type", "missing", "distinct", "min", "mean", "max", "top", box=None, pad_edge=False)
    for column in columns:
        numbers = [
            "-" if value is None else iso(round(value)) if column.dtype == "time" else f"{value:.6g}"
            for value in (column.min, column.mean, column.max)
        ]
        top = ", ".join(f"{top.value} ({top.count:,})" for top in column.top[:3])
        table.add_row(column.name, column.dtype, f"{column.missing_ratio:.1%}", f"{column.distinct:,}", *numbers, top)
    return table
