"""The error tree of Salus. Every error says what is wrong, where, the law it breaks and the next step.

    SalusError
     ├── InvalidInput          422  a value breaks a law: `path` names the field
     ├── Unauthenticated       401  nobody is known to be asking
     ├── Denied                403  the actor lacks the permission, or a gate refused
     ├── NotFound              404  no such thing in this workspace
     ├── Conflict              409  the thing exists already, or has moved on
     ├── TooLarge              413  larger than the limit
     ├── Overloaded            429  too much at once: retry after `retry_after_s`
     ├── Unavailable           503  a service that is needed is away: retry after `retry_after_s`
     ├── StorageFull           507  the disk is full: nothing was written
     ├── Corrupt               500  stored bytes do not match their digest
     └── MissingExtra          501  an optional dependency is not installed

The same class is raised by the services, carried over HTTP as problem+json (RFC 9457), and raised again by the SDK.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it travels: problem+json (RFC 9457) with Salus's extensions.

    `type` is the error's code behind `urn:salus:`; `path` is the place of the bad value (`$.points[1].step`);
    `remedy` is the next step for the person who reads it; `details` holds whatever evidence there is.
    """

    type: str
    title: str
    status: int
    detail: str
    path: str | None = None
    remedy: str | None = None
    retry_after_s: float | None = None
    details: Any = None


class SalusError(Exception):
    """What all errors of Salus share.

    Args:
        detail: what is wrong, with the values: "weights must sum to 1, got 0.7 + 0.2".
        path: the place of the bad value in the input, as in `$.points[1].step`.
        remedy: what to do next.
        details: evidence that a program can read, JSON-compatible.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Salus failed"

    def __init__(
        self,
        detail: str,
        *,
        path: str | None = None,
        remedy: str | None = None,
        details: Any = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.path = path
        self.remedy = remedy
        self.details = details
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        where = f" - at {self.path}" if self.path else ""
        then = f" {self.remedy}" if self.remedy else ""
        return f"{self.detail}{where}.{then}" if then else f"{self.detail}{where}"

    def problem(self) -> Problem:
        """This error as it travels over HTTP."""
        return Problem(
            type=f"urn:salus:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            path=self.path,
            remedy=self.remedy,
            retry_after_s=self.retry_after_s,
            details=self.details,
        )


class InvalidInput(SalusError):  # noqa: N818 - the field's words, not Python's suffix
    """A value breaks a law; `path` names it."""

    status = 422
    code = "invalid-input"
    title = "Invalid input"


class Unauthenticated(SalusError):  # noqa: N818
    """Nobody is known to be asking."""

    status = 401
    code = "unauthenticated"
    title = "Not authenticated"


class Denied(SalusError):  # noqa: N818
    """The actor lacks the permission, or a gate refused."""

    status = 403
    code = "denied"
    title = "Denied"


class NotFound(SalusError):  # noqa: N818
    """No such thing in this workspace."""

    status = 404
    code = "not-found"
    title = "Not found"


class Conflict(SalusError):  # noqa: N818
    """The thing exists already, or has moved on since it was read."""

    status = 409
    code = "conflict"
    title = "Conflict"


class TooLarge(SalusError):  # noqa: N818
    """The input is larger than the limit."""

    status = 413
    code = "too-large"
    title = "Too large"


class Overloaded(SalusError):  # noqa: N818
    """Too much at once; `retry_after_s` says when to come again."""

    status = 429
    code = "overloaded"
    title = "Overloaded"


class Unavailable(SalusError):  # noqa: N818
    """A service that is needed is away; `retry_after_s` says when to come again."""

    status = 503
    code = "unavailable"
    title = "Unavailable"


class StorageFull(SalusError):  # noqa: N818
    """The disk is full; nothing was written, reads go on."""

    status = 507
    code = "storage-full"
    title = "Storage is full"


class Corrupt(SalusError):  # noqa: N818
    """Stored bytes do not match their digest, or a chain is broken."""

    status = 500
    code = "corrupt"
    title = "Corrupt data"


class MissingExtra(SalusError):  # noqa: N818
    """An optional dependency is not installed."""

    status = 501
    code = "missing-extra"
    title = "An optional dependency is missing"


_BY_CODE: dict[str, type[SalusError]] = {cls.code: cls for cls in SalusError.__subclasses__()}


def from_problem(problem: Problem) -> SalusError:
    """The error that `problem` tells of, as the class it was raised with.

    >>> from_problem(NotFound("no run r1").problem())
    NotFound('no run r1')
    """
    cls = _BY_CODE.get(problem.type.removeprefix("urn:salus:"), SalusError)
    return cls(
        problem.detail,
        path=problem.path,
        remedy=problem.remedy,
        details=problem.details,
        retry_after_s=problem.retry_after_s,
    )
