"""Who may ask: requests for a host of ours, from no foreign page, with the token where authentication is on."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Protocol

from salus.kernel.errors import Denied, InvalidInput, Unauthenticated
from salus.kernel.settings import Settings

_REMEMBERED = 1_000


class Headers(Protocol):
    """The headers of a request."""

    def get(self, key: str, default: str | None = None) -> str | None:
        """The value of the header in lower case, or `default`."""
        ...


class Access:
    """The rule of one data plane.

    Raises:
        InvalidInput: it would listen beyond this machine without authentication, or ask for a token nobody set.
    """

    def __init__(self, settings: Settings, host: str) -> None:
        if not settings.auth and not is_loopback(host):
            raise InvalidInput(
                f"without authentication a data plane listens on this machine only, not on {host}",
                path="SALUS_HOST",
                remedy="Set SALUS_AUTH=true and SALUS_TOKEN, or listen on 127.0.0.1.",
            )
        if settings.auth and not settings.token:
            raise InvalidInput(
                "authentication is on and there is no token to ask for",
                path="SALUS_TOKEN",
                remedy="Set SALUS_TOKEN to a token of the control plane: salus token create",
            )
        self._token = hashlib.sha256(settings.token.encode()).digest() if settings.auth else None
        self._hosts = frozenset(part.strip().lower() for part in settings.allowed_hosts.split(",") if part.strip())
        self._seen: set[str] = set()

    def check(self, headers: Headers) -> None:
        """Lets a request pass.

        Raises:
            Denied: it is for another host, or from a page of another host.
            Unauthenticated: it has no token, or a wrong one.
        """
        host = headers.get("host") or ""
        if host not in self._seen:
            self._check_host(host, "Host")
        origin = headers.get("origin")
        if origin is not None:
            self._check_host(origin.partition("://")[2], "Origin")
        if self._token is not None:
            self._check_token(headers.get("authorization") or "")

    def _check_host(self, host: str, header: str) -> None:
        if _without_port(host.lower()) not in self._hosts and "*" not in self._hosts:
            raise Denied(
                f"this server does not answer for the {header} {host[:200]!r}",
                remedy="Add the host to SALUS_ALLOWED_HOSTS.",
            )
        if header == "Host" and len(self._seen) < _REMEMBERED:
            self._seen.add(host)

    def _check_token(self, given: str) -> None:
        kind, _, token = given.partition(" ")
        actual = hashlib.sha256(token.strip().encode()).digest()
        if kind.lower() != "bearer" or not hmac.compare_digest(actual, self._token or b""):
            raise Unauthenticated(
                "a valid token is needed here", remedy="Send it as the header: Authorization: Bearer TOKEN"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdigit() else host
