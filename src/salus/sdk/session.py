"""The line to a Salus server: one pooled, thread-safe HTTP client with retries that repeat nothing twice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from salus.kernel.errors import NotFound, Overloaded, Problem, SalusError, Unavailable, from_problem
from salus.kernel.ids import new_id
from salus.kernel.settings import Settings, load_settings
from salus.kernel.structs import refuse_non_finite

T = TypeVar("T")

_TIMEOUT = urllib3.Timeout(connect=3.0, read=60.0)
_RETRY_STATUS = frozenset({429, 502, 503})
_BY_STATUS: dict[int, type[SalusError]] = {429: Overloaded, 502: Unavailable, 503: Unavailable, 504: Unavailable}
_BACKOFF_S = 0.1


def path(*parts: str) -> str:
    """An API path from its parts, each quoted.

    >>> path("models", "a/b", "versions")
    '/api/v1/models/a%2Fb/versions'
    """
    return "/api/v1/" + "/".join(quote(part, safe="@:") for part in parts)


class Session:
    """Requests to one server, in one workspace.

    A request that failed on the way is sent again (at most `attempts` times), a creating one under the same
    idempotency key, so that it is carried out once.
    """

    def __init__(self, settings: Settings | None = None, *, attempts: int = 4) -> None:
        self.settings = settings or load_settings()
        self.url = self.settings.server_url.rstrip("/")
        self._attempts = attempts
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=_TIMEOUT)
        self._headers = {"X-Salus-Workspace": self.settings.workspace, "Accept": "application/json"}
        if self.settings.token:
            self._headers["Authorization"] = f"Bearer {self.settings.token}"

    @overload
    def call(
        self,
        method: str,
        path: str,
        *,
        expect: type[T],
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        once: bool = False,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> T: ...

    @overload
    def call(
        self,
        method: str,
        path: str,
        *,
        expect: None = None,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        once: bool = False,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> None: ...

    def call(
        self,
        method: str,
        path: str,
        *,
        expect: type[T] | None = None,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        once: bool = False,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> T | None:
        """Sends `body` as JSON and returns the answer as `expect`.

        Args:
            once: the request makes something: it carries an idempotency key (`key`, or a fresh one).
            timeout_s: how long to wait for the answer; 60 s where not given.

        Raises:
            InvalidInput: `body` holds a NaN or an infinity; nothing was sent.
            SalusError: the class that the server raised; `Unavailable` when it cannot be reached.
        """
        content = None if body is None else _encoded(body)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if once or key:
            headers["Idempotency-Key"] = key or new_id("req")
        raw = self.send(method, path, content=content, headers=headers, query=query, timeout_s=timeout_s)
        return None if expect is None else msgspec.json.decode(raw, type=expect)

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Sends raw bytes and returns the raw answer; errors as in `call`."""
        url = self._url(path, query)
        timeout = _TIMEOUT if timeout_s is None else urllib3.Timeout(connect=3.0, read=timeout_s)
        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            try:
                response = self._pool.request(
                    method, url, body=content, headers={**self._headers, **(headers or {})}, timeout=timeout
                )
            except urllib3.exceptions.HTTPError as error:
                if last or isinstance(error, urllib3.exceptions.ReadTimeoutError):
                    raise self._away(error) from error
                time.sleep(_pause_s(attempt))
                continue
            if response.status < 400:
                return response.data
            if response.status in _RETRY_STATUS and not last:
                time.sleep(max(_pause_s(attempt), _retry_after_s(response)))
                continue
            raise _error(response.status, response.data, url)
        raise AssertionError("unreachable")

    def upload(self, method: str, path: str, body: Iterable[bytes] | bytes) -> bytes:
        """Sends bytes as they are, in pieces if they come in pieces; not repeated on failure."""
        headers = {**self._headers, "Content-Type": "application/octet-stream"}
        url = self._url(path, None)
        try:
            response = self._pool.request(method, url, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise self._away(error) from error
        if response.status >= 400:
            raise _error(response.status, response.data, url)
        return response.data

    def download(
        self, path: str, query: Mapping[str, Any] | None = None, chunk_bytes: int = 1 << 20
    ) -> Iterator[bytes]:
        """The answer's bytes in pieces."""
        url = self._url(path, query)
        try:
            response = self._pool.request("GET", url, headers=self._headers, preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._away(error) from error
        try:
            if response.status >= 400:
                raise _error(response.status, response.read(), url)
            yield from response.stream(chunk_bytes)
        finally:
            response.release_conn()

    def close(self) -> None:
        """Lets go of the connections."""
        self._pool.clear()

    def _url(self, path: str, query: Mapping[str, Any] | None) -> str:
        base = path if path.startswith("http") else self.url + path
        chosen = {name: value for name, value in (query or {}).items() if value is not None}
        return f"{base}?{urlencode(chosen, doseq=True)}" if chosen else base

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"no answer from {self.url}: {error}",
            remedy="Start it with 'salus up', or set SALUS_URL to where it runs.",
            retry_after_s=1.0,
        )


def _encoded(body: Any) -> bytes:
    content = msgspec.json.encode(body)
    if b"null" in content:
        refuse_non_finite(msgspec.to_builtins(body), "$")
    return content


def _pause_s(attempt: int) -> float:
    return float(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))


def _retry_after_s(response: urllib3.BaseHTTPResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 5.0) if value.isdigit() else 0.0


def _error(status: int, raw: bytes, url: str) -> SalusError:
    try:
        return from_problem(msgspec.json.decode(raw, type=Problem))
    except msgspec.DecodeError:
        if status == 404:
            return NotFound(f"there is nothing at {url}")
        kind = _BY_STATUS.get(status, SalusError)  # of something between us and the server
        return kind(f"{url} answered {status}: {raw[:200]!r}")
