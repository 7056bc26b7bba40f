"""The composition root: engines by address, slices together, news to subscribers. Only here everything is known."""

from __future__ import annotations

from litestar import Router

from salus.backends.addresses import open_blobs, open_database, open_key_value
from salus.data import routes as data_routes
from salus.features import routes as feature_routes
from salus.kernel.clock import Clock
from salus.kernel.policy import Gate
from salus.kernel.segments import Segments
from salus.kernel.settings import Settings
from salus.kernel.subscriptions import Subscription
from salus.monitoring import routes as monitoring_routes
from salus.monitoring import watching
from salus.pipelines import routes as pipeline_routes
from salus.registry import routes as registry_routes
from salus.retraining import progress as retraining_progress
from salus.retraining import routes as retraining_routes
from salus.server import status
from salus.server.migrations.migrate import migrate
from salus.serving import routes as serving_routes
from salus.serving.service import watch
from salus.tracking import routes as tracking_routes
from salus.web import blobs as blob_routes
from salus.web import records as record_routes
from salus.web.context import Context
from salus.web.live import Live
from salus.web.waiting import Waiting

ROUTERS: tuple[Router, ...] = (
    blob_routes.router,
    record_routes.router,
    tracking_routes.router,
    data_routes.router,
    feature_routes.router,
    registry_routes.router,
    pipeline_routes.router,
    serving_routes.router,
    monitoring_routes.router,
    retraining_routes.router,
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
        waiting=Waiting(database),
    )


def subscriptions(context: Context) -> list[Subscription]:
    """Who wants to know what."""
    return [
        watch.SUBSCRIPTION,
        *watching.SUBSCRIPTIONS,
        *retraining_progress.subscriptions(context.gate),
    ]
