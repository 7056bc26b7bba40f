"""Access: who is asking, and may they? Deny by default; the host and origin of a request are checked first."""

from __future__ import annotations

import re
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import msgspec
from litestar.connection import ASGIConnection, Request
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from salus.kernel import tokens
from salus.kernel.errors import Denied, InvalidInput, Problem, Unauthenticated
from salus.kernel.identity import Actor
from salus.kernel.settings import Settings
from salus.web.context import Context
from salus.web.problems import MEDIA_TYPE

_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuses a request whose actor lacks the permission that the route declares."""
    permission = handler.opt.get("permission")
    if permission == "public":
        return
    if permission is None:
        raise Denied(f"the route {connection.url.path} declares no permission")
    actor = await _authenticate(connection)
    actor.require(permission)
    connection.scope["salus_actor"] = actor  # type: ignore[typeddict-unknown-key]


async def provide_actor(request: Request[Any, Any, Any]) -> Actor:
    """The actor that the guard let in."""
    actor: Actor | None = request.scope.get("salus_actor")  # type: ignore[assignment]
    if actor is None:
        raise Unauthenticated("this route knows no actor")
    return actor


async def provide_context(request: Request[Any, Any, Any]) -> Context:
    """The engines."""
    context: Context = request.app.state.context
    return context


async def _authenticate(connection: ASGIConnection[Any, Any, Any, Any]) -> Actor:
    context: Context = connection.app.state.context
    asked = connection.headers.get("x-salus-workspace", "") or connection.query_params.get("workspace", "")
    header = connection.headers.get("authorization", "")
    if not context.settings.auth and not header:
        workspace = asked or context.settings.workspace
        if not _WORKSPACE.fullmatch(workspace):
            raise InvalidInput(
                "a workspace's name has letters, digits, '.', '_' and '-', starts with one of the first two and has "
                f"at most 128 characters, got {workspace[:80]!r}",
                path="X-Salus-Workspace",
                remedy="Set SALUS_WORKSPACE to such a name; the first workspace is 'default'.",
            )
        return Actor(principal="local", role="admin", workspace=workspace)
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated(
            "this server asks for a token",
            path="Authorization",
            remedy="Send 'Authorization: Bearer <token>'; the SDK and the command line read SALUS_TOKEN.",
        )
    actor = await context.read(tokens.authenticate, text.strip())
    if asked and asked != actor.workspace:
        raise Denied(
            f"the token belongs to the workspace {actor.workspace!r}, the request asks for {asked!r}",
            path="X-Salus-Workspace",
        )
    return actor


_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]{1,5})?")


class HostCheck:
    """ASGI middleware: only known hosts, and no changes by pages of another origin.

    A page on the internet can make a browser on this machine send requests to loopback addresses (DNS rebinding,
    cross-site forms); it cannot forge the `Host` and `Origin` that the browser sends with them.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = {host.strip().lower() for host in settings.allowed_hosts.split(",")} | {settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        problem = self._problem(dict(scope["headers"]), scope["method"]) if _is_http(scope) else None
        if problem is not None:
            body = msgspec.json.encode(problem)
            headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": problem.status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        await self._app(scope, receive, send)

    def _problem(self, headers: dict[bytes, bytes], method: str) -> Problem | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if "*" not in self._hosts and _name(host) not in self._hosts:
            return Problem(
                type="urn:salus:denied",
                title="Unknown host",
                status=421,
                detail=f"this server does not answer for the host {host[:100]!r}",
                path="Host",
                remedy="Use its own address, or add the host to SALUS_ALLOWED_HOSTS.",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and method not in {"GET", "HEAD", "OPTIONS"} and urlsplit(origin).netloc != host:
            return Problem(
                type="urn:salus:denied",
                title="Foreign origin",
                status=403,
                detail=f"a page of {origin[:100]!r} may not change anything here",
                path="Origin",
            )
        return None


def _is_http(scope: Scope) -> TypeGuard[HTTPScope]:
    """Whether this is a request, not a websocket."""
    return str(scope["type"]) == "http"


def _name(host: str) -> str:
    """The host's name without its port; all of it where what follows is no port.

    >>> _name("[::1]:7070"), _name("LocalHost:7070"), _name("127.0.0.1"), _name("127.0.0.1:1@evil.example")
    ('[::1]', 'localhost', '127.0.0.1', '127.0.0.1:1@evil.example')
    """
    found = _HOST.fullmatch(host)
    return (found[1] if found else host).lower()
