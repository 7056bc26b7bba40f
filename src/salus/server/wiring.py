"""The composition root: engines by address, slices together, news to subscribers. Only here everything is known."""

from __future__ import annotations

from litestar import Router
from salus.kernel.segments import Segments

from salus.backends.addresses import open_blobs, open_database, open_key_value
from salus.kernel.clock import Clock
from salus.kernel.policy import Gate
from salus.kernel.settings import Settings
from salus.kernel.subscriptions import Subscription
from salus.server import status
from salus.server.migrations.migrate import migrate
from salus.tracking import routes as tracking_routes
from salus.web import blobs as blob_routes
from salus.web import records as record_routes
from salus.web.context import Context
from salus.web.live import Live

ROUTERS: tuple[Router, ...] = (
    blob_routes.router,
    record_routes.router,
    tracking_routes.router,
    status.router,
    status.health_router,
)


def open_context(settings: Settings, clock: Clock | None = None) -> Context:
    """The engines that the settings name, with the database's tables brought up to date."""
    database = open_database(settings.database, clock)
    migrate(database)
    blobs = open_blobs(settings.blobs)
    return Context(
        settings=settings,
        database=database,
        blobs=blobs,
        segments=Segments(blobs),
        key_value=open_key_value(settings.key_value),
        gate=Gate(),
        live=Live(database),
    )


def subscriptions(context: Context) -> list[Subscription]:
    """Who wants to know what."""
    return []
