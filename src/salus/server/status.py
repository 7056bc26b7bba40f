"""How the control plane itself is: health, readiness, metrics, addresses."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from importlib import metadata

import psutil
import sqlalchemy as sa
from litestar import MediaType

from salus.kernel import ledger
from salus.kernel.identity import Actor
from salus.kernel.sql import Reader
from salus.kernel.structs import Record
from salus.web.context import Context
from salus.web.routing import get, slice_router

_STARTED_S = time.time()


class Status(Record):
    """What runs here."""

    version: str
    python: str
    workspace: str
    actor: str
    role: str
    server_url: str
    dataplane_url: str
    database: str
    started_ms: int
    ledger_entries: int
    pid: int


@get("/healthz", permission="public", media_type=MediaType.TEXT, summary="Is the process alive?")
async def healthz() -> str:
    """Answers as long as the event loop turns."""
    return "ok"


@get("/readyz", permission="public", media_type=MediaType.TEXT, summary="Can requests be answered?")
async def readyz(context: Context) -> str:
    """Answers `ok` when the database can be read."""
    await asyncio.wait_for(context.read(_ping), timeout=5)
    return "ok"


@get("/metrics", permission="public", media_type=MediaType.TEXT, summary="Metrics for Prometheus")
async def metrics(context: Context) -> str:
    """The process's own vital signs, in the Prometheus text format."""
    process = psutil.Process()
    entries = await context.read(ledger.head)
    cpu = process.cpu_times()
    lines = [
        "# HELP salus_ledger_entries Events recorded in the ledger.",
        "# TYPE salus_ledger_entries counter",
        f"salus_ledger_entries {entries}",
        "# HELP process_cpu_seconds_total User and system CPU time spent.",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {cpu.user + cpu.system}",
        "# HELP process_resident_memory_bytes Resident memory.",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {process.memory_info().rss}",
        "# HELP process_start_time_seconds Start time since the epoch.",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {process.create_time()}",
    ]
    return "\n".join(lines) + "\n"


@get("/status", permission="read", summary="What runs here")
async def show_status(context: Context, actor: Actor) -> Status:
    """Versions, addresses, engines."""
    return Status(
        version=metadata.version("salus-mlops"),
        python=platform.python_version(),
        workspace=actor.workspace,
        actor=actor.principal,
        role=actor.role,
        server_url=context.settings.server_url,
        dataplane_url=context.settings.dataplane_url,
        database=context.settings.database.partition("://")[0],
        started_ms=round(_STARTED_S * 1000),
        ledger_entries=await context.read(ledger.head),
        pid=os.getpid(),
    )


def _ping(reader: Reader) -> int:
    return int(reader.value(sa.select(1)))


router = slice_router("system", [show_status])
health_router = slice_router("system", [healthz, readyz, metrics], prefix="/")
