"""The RSGI application: paths to answers, errors to problem+json. Nothing here knows how an answer is made."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec
from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

from salus.kernel.errors import NotFound, Problem, SalusError, TooLarge, Unavailable
from salus.server.dataplane.access import Access
from salus.server.dataplane.health import Health
from salus.server.dataplane.limits import Limits
from salus.server.dataplane.plans import NO_PLANS, EndpointPlan, Plans
from salus.server.dataplane.predict import Predictor

_JSON = [("content-type", "application/json")]
_PROBLEM = ("content-type", "application/problem+json")
_TEXT = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]
_OPEN = ("/livez", "/readyz", "/metrics")
"""What probes and scrapers may see without a token."""

_PREDICT = "/predict/"
_ENDPOINTS = "/endpoints/"
_SMALL_DIGITS = 6
"""A body whose declared length has fewer digits is small enough to read without looking at the limits."""

log = logging.getLogger("salus.dataplane")


class App:
    """What granian calls: `__rsgi__` once a request. `plans` is replaced as a whole when routes change."""

    def __init__(self, *, access: Access, limits: Limits, predictor: Predictor, health: Health) -> None:
        self.plans: Plans = NO_PLANS
        self._access = access
        self._limits = limits
        self._predictor = predictor
        self._health = health
        self._counters = health.counters
        self._body_bytes = 0

    def __rsgi__(self, scope: Any, proto: Any) -> Awaitable[None]:
        """Answers one request."""
        path: str = scope.path
        if scope.method == "POST" and path.startswith(_PREDICT):
            return self._predict(scope, proto, path[len(_PREDICT) :])
        return self._answer_look(scope, proto, path)

    async def _answer_look(self, scope: Any, proto: Any, path: str) -> None:
        try:
            if path not in _OPEN:
                self._access.check(scope.headers)
            status, headers, body = self._look(scope.method, path, scope.headers)
        except SalusError as error:
            status, headers, body = _refusal(error)
        proto.response_bytes(status, headers, body)

    async def _predict(self, scope: Any, proto: Any, name: str) -> None:
        started_s = time.perf_counter()
        status, answer_headers, plan = 200, _JSON, None
        predictor = self._predictor
        predictor.under_way += 1
        try:
            headers = scope.headers
            self._access.check(headers)
            plan = self._find(name, headers)
            if plan.lookups and not self._health.has_features:
                raise Unavailable("the online features are still on their way", retry_after_s=1.0)
            declared = headers.get("content-length")
            if declared is not None and len(declared) < _SMALL_DIGITS:
                body = await proto()
            else:
                body = await self._read(declared, proto)
            given = predictor.predict(plan, body)
            answer = given if isinstance(given, bytes) else await given
        except SalusError as error:
            status, answer_headers, answer = _refusal(error)
        except (ProtocolClosed, ProtocolError):
            log.info("POST %s%s: the client went away", _PREDICT, name)
            return
        except Exception:
            log.exception("POST %s%s failed", _PREDICT, name)
            status, answer_headers, answer = _refusal(SalusError("the data plane failed; its log says why"))
        finally:
            predictor.under_way -= 1
        if plan is not None:
            self._counters.of(plan.endpoint).answered(status, time.perf_counter() - started_s)
        proto.response_bytes(status, answer_headers, answer)

    async def _read(self, declared: str | None, proto: Any) -> bytes:
        """A body that is large or of unknown length, as soon as it is known to be within the limits."""
        if declared is None:
            return await self._read_chunks(proto)
        size_bytes = int(declared) if declared.isdigit() else 0
        self._check_size(size_bytes)
        self._body_bytes += size_bytes
        try:
            body: bytes = await proto()
        finally:
            self._body_bytes -= size_bytes
        return body

    async def _read_chunks(self, proto: Any) -> bytes:
        chunks, size_bytes = [], 0
        async for chunk in proto:
            size_bytes += len(chunk)
            self._check_size(size_bytes)
            chunks.append(chunk)
        return b"".join(chunks)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limits.body_bytes:
            raise TooLarge(
                f"a body has at most {self._limits.body_bytes:,} bytes, this one {size_bytes:,}",
                remedy="Send the rows in several requests.",
            )
        if self._body_bytes + size_bytes > self._limits.waiting_bytes:
            raise Unavailable(
                f"{self._body_bytes:,} bytes of requests wait already", retry_after_s=1.0,
                remedy="Send fewer at once, or come again later.",
            )  # fmt: skip

    def _find(self, name: str, headers: Any) -> EndpointPlan:
        workspace = headers.get("x-salus-workspace") or "default"
        plan = self.plans.find(workspace, name) or self.plans.find(workspace, unquote(name))
        if plan is not None:
            return plan
        if not self._health.ready:
            raise Unavailable("there are no routes yet", remedy="Come again in a moment.", retry_after_s=1.0)
        names = sorted(known for space, known in self.plans.endpoints if space == workspace)
        raise NotFound(
            f"there is no endpoint {unquote(name)[:200]!r} in the workspace {workspace[:200]!r}",
            remedy=f"Endpoints here: {', '.join(names[:20]) or 'none yet: salus endpoints deploy'}.",
        )

    def _look(self, method: str, path: str, headers: Any) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer to anything but a prediction."""
        looks: dict[str, Callable[[], tuple[int, list[tuple[str, str]], bytes]]] = {
            "/livez": lambda: (200, _JSON, b'{"live":true}'),
            "/readyz": self._readiness,
            "/metrics": self._metrics,
        }
        known = path in looks or path.startswith((_ENDPOINTS, _PREDICT))
        if known and (method not in ("GET", "HEAD") or path.startswith(_PREDICT)):
            allowed = "POST" if path.startswith(_PREDICT) else "GET, HEAD"
            return _not_allowed(method, path, allowed)
        if path in looks:
            return looks[path]()
        if path.startswith(_ENDPOINTS):
            return 200, _JSON, _describe(self._find(path[len(_ENDPOINTS) :], headers))
        raise NotFound(
            f"there is no {path[:200]!r} here",
            remedy="POST /predict/{endpoint}, GET /endpoints/{endpoint}, /livez, /readyz, /metrics.",
        )

    def _metrics(self) -> tuple[int, list[tuple[str, str]], bytes]:
        return 200, _TEXT, self._health.metrics(self._predictor.under_way).encode()

    def _readiness(self) -> tuple[int, list[tuple[str, str]], bytes]:
        report = self._health.report()
        if self._health.ready:
            return 200, _JSON, msgspec.json.encode(report)
        return 503, [*_JSON, ("retry-after", "1")], msgspec.json.encode(report)


def _describe(plan: EndpointPlan) -> bytes:
    return msgspec.json.encode(
        {
            "endpoint": plan.endpoint,
            "workspace": plan.workspace,
            "task": plan.task,
            "columns": plan.shape.columns,
            "features": plan.shape.features,
            "revisions": [
                {"revision": s.revision, "model": s.model, "version": s.version} for s in plan.served.values()
            ],
            "example": plan.shape.example(),
        }
    )


def _refusal(error: SalusError) -> tuple[int, list[tuple[str, str]], bytes]:
    headers = [_PROBLEM]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    return error.status, headers, msgspec.json.encode(error.problem())


def _not_allowed(method: str, path: str, allowed: str) -> tuple[int, list[tuple[str, str]], bytes]:
    problem = Problem(
        type="urn:salus:method-not-allowed",
        title="Method not allowed",
        status=405,
        detail=f"{path[:200]} takes {allowed}, not {method}",
        remedy=f"Use {allowed}.",
    )
    return 405, [_PROBLEM, ("allow", allowed)], msgspec.json.encode(problem)
