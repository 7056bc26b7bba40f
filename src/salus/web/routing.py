"""Routes: every one declares the permission it needs. One that does not cannot be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import litestar
from litestar import Router
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import Parameter

from salus.kernel.identity import Permission

PREFIX = "/api/v1"

IdempotencyKey = Annotated[str | None, Parameter(header="Idempotency-Key")]
"""The header that makes a repeated request harmless; see `salus.web.context.Context.write_once`."""

Route = Callable[[Callable[..., Any]], HTTPRouteHandler]
"""What a route's decorator does."""


def get(path: str | list[str], *, permission: Permission, **options: Any) -> Route:
    """A route that looks and changes nothing."""
    return litestar.get(path, **_declared(permission, options))


def post(path: str, *, permission: Permission, status_code: int = 200, **options: Any) -> Route:
    """A route that does something; with an `Idempotency-Key`, once."""
    return litestar.post(path, status_code=status_code, **_declared(permission, options))


def put(path: str, *, permission: Permission, **options: Any) -> Route:
    """A route that makes a thing be as the body says."""
    return litestar.put(path, **_declared(permission, options))


def delete(path: str, *, permission: Permission, status_code: int = 200, **options: Any) -> Route:
    """A route that takes a thing away."""
    return litestar.delete(path, status_code=status_code, **_declared(permission, options))


def _declared(permission: Permission, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "opt": {**options.get("opt", {}), "permission": permission}}


def slice_router(name: str, handlers: Sequence[BaseRouteHandler], *, prefix: str = PREFIX) -> Router:
    """The routes of one slice, under `/api/v1`; `name` groups them in the OpenAPI document.

    Raises:
        ValueError: a handler declares no permission.
    """
    for handler in handlers:
        if isinstance(handler, HTTPRouteHandler) and "permission" not in handler.opt:
            raise ValueError(f"the route {sorted(handler.paths)} of {name} declares no permission")
    return Router(path=prefix, route_handlers=list(handlers), tags=[name])
