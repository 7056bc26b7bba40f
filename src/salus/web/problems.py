"""Errors on their way out: every failure leaves as problem+json (RFC 9457)."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException

from salus.kernel.errors import InvalidInput, Problem, SalusError

log = logging.getLogger("salus.web")

MEDIA_TYPE = "application/problem+json"

_HTTP = {
    404: ("not-found", "Not found"),
    405: ("error", "Method not allowed"),
    413: ("too-large", "Too large"),
}


def respond(problem: Problem) -> Response[bytes]:
    """`problem` as an HTTP answer."""
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def from_salus(_request: Request[Any, Any, Any], error: SalusError) -> Response[bytes]:
    """Our own errors say all by themselves."""
    if error.status >= 500:
        log.error("%s: %s", error.code, error)
    return respond(error.problem())


def from_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework's errors, in our words."""
    if isinstance(error, ValidationException):
        return respond(_invalid(error).problem())
    if isinstance(error.__cause__, SerializationException) or isinstance(error, SerializationException):
        return respond(_malformed(error).problem())
    code, title = _HTTP.get(error.status_code, ("error", "Refused"))
    detail = f"there is nothing at {request.url.path}" if error.status_code == 404 else error.detail
    return respond(
        Problem(
            type=f"urn:salus:{code}",
            title=title,
            status=error.status_code,
            detail=detail,
            remedy="See /schema for the routes and their bodies.",
        )
    )


def from_serialization(_request: Request[Any, Any, Any], error: SerializationException) -> Response[bytes]:
    """A body that is not what its media type says."""
    return respond(_malformed(error).problem())


def from_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A fault of ours: logged with its traceback, told without its insides."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(
        Problem(
            type="urn:salus:bug",
            title="Salus failed",
            status=500,
            detail=f"an unexpected {type(error).__name__}",
            remedy="This is a fault of Salus, not of your request: see the server's log, and report it.",
        )
    )


def _malformed(error: Exception) -> InvalidInput:
    return InvalidInput(
        f"the body is not valid: {error.__cause__ or error}",
        path="$",
        remedy="Send well-formed JSON (UTF-8, no NaN or Infinity) with Content-Type: application/json.",
    )


def _invalid(error: ValidationException) -> InvalidInput:
    extra = error.extra if isinstance(error.extra, list) else []
    if not extra:
        return _malformed(error)
    first = extra[0]
    key = str(first.get("key", ""))
    source = first.get("source", "")
    path = f"$.{key}" if source == "body" or not source else key
    return InvalidInput(
        str(first.get("message", error.detail)),
        path=path if key and key != "data" else "$",
        remedy="See /schema for the types of this route.",
        details=extra if len(extra) > 1 else None,
    )


def from_recursion(_request: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:
    """JSON nested deeper than any sensible value."""
    return respond(_malformed(error).problem())


HANDLERS: dict[Any, Any] = {
    SalusError: from_salus,
    RecursionError: from_recursion,
    SerializationException: from_serialization,
    HTTPException: from_http,
    Exception: from_bug,
}
