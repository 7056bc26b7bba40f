"""The control plane as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import metadata as package
from typing import Any

from litestar import Litestar, Response, Router
from litestar.config.compression import CompressionConfig
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.status_codes import HTTP_404_NOT_FOUND

from salus.kernel.subscriptions import Dispatcher
from salus.monitoring.evaluator import Evaluator
from salus.pipelines.scheduler import Scheduler
from salus.server.maintenance import Maintenance
from salus.server.page import page_router
from salus.server.wiring import ROUTERS, subscriptions
from salus.web.access import HostCheck, guard, provide_actor, provide_context
from salus.web.bodies import CarefulRequest, check_parameters
from salus.web.context import Context
from salus.web.problems import HANDLERS

log = logging.getLogger("salus.server")

_UNCOMPRESSED = ["/api/v1/live", "/api/v1/blobs", "/artifacts/"]
"""A stream that must not wait for a full block, and bytes that are what they are."""


async def tell_missing(response: Response[Any]) -> Response[Any]:
    """Lets what is missing under `/schema` be told as everywhere else, not as a page of the framework's."""
    if response.status_code == HTTP_404_NOT_FOUND:
        raise NotFoundException
    return response


def make_app(context: Context) -> Litestar:
    """The application over these engines: the API, the page, the live feed, the dispatcher, the scheduler."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        dispatcher = Dispatcher(context.database, subscriptions(context))
        scheduler = Scheduler(context.database)
        evaluator = Evaluator(context.database, context.segments, context.blobs)
        maintenance = Maintenance(context.database, context.segments)
        await context.live.start()
        dispatcher.start()
        scheduler.start()
        evaluator.start()
        maintenance.start()
        try:
            yield
        finally:
            maintenance.stop()
            evaluator.stop()
            scheduler.stop()
            dispatcher.stop()
            await context.live.stop()

    app = Litestar(
        route_handlers=[*ROUTERS, page_router],
        guards=[guard],
        request_class=CarefulRequest,
        before_request=check_parameters,
        dependencies={
            "context": Provide(provide_context),
            "actor": Provide(provide_actor),
        },
        exception_handlers=HANDLERS,
        middleware=[DefineMiddleware(HostCheck, settings=context.settings)],
        lifespan=[lifespan],
        openapi_config=OpenAPIConfig(
            title="Salus",
            version=package.version("salus-mlops"),
            openapi_router=Router(
                "/schema", route_handlers=[], opt={"permission": "public"}, after_request=tell_missing
            ),
            render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()],
            use_handler_docstrings=True,
        ),
        compression_config=CompressionConfig(
            backend="gzip", gzip_compress_level=4, minimum_size=4_000, exclude=_UNCOMPRESSED
        ),
        request_max_body_size=context.settings.max_body_bytes,
        logging_config=None,
    )
    app.state.context = context
    return app
