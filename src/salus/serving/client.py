"""Endpoints in the SDK: `client.endpoints.deploy(...)`, `client.predict(...)`, `client.label(...)`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import urllib3

from salus.kernel.errors import InvalidInput, Problem, SalusError, Unavailable, from_problem
from salus.kernel.extras import load
from salus.kernel.schema import Task
from salus.sdk.session import Session, path
from salus.serving.model.endpoints import Endpoint, PutEndpoint, PutShadows
from salus.serving.model.labels import Completeness, Label, LabelsAccepted, PostLabels
from salus.serving.model.predictions import Plane, PredictionRow
from salus.serving.model.rollouts import (
    EndpointDetail,
    Reason,
    Rollout,
    RolloutDetail,
    StartRollout,
    Strategy,
)
from salus.serving.wire import FeatureLookup
from salus.web.pagination import Page

_POLL_S = 0.5
_TIMEOUT = urllib3.Timeout(connect=3.0, read=30.0)
_CONNECTIONS = 16


class Prediction(msgspec.Struct, frozen=True):
    """The answer to one row; `id` is what its label names later.

    `outputs` is None where the model failed on this row: `error` says how.
    """

    id: str
    outputs: dict[str, Any] | None
    model: str
    version: str
    revision: str
    error: str | None = None


class _Question(msgspec.Struct, omit_defaults=True):
    rows: Sequence[Mapping[str, Any]]
    keys: Sequence[str] | None = None
    event_ms: Sequence[int] | None = None


class _Answer(msgspec.Struct):
    predictions: list[Prediction]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode


class PredictClient:
    """The line to the data plane: kept open, thread-safe, nothing on the way but JSON."""

    def __init__(self, session: Session) -> None:
        self._url = session.settings.dataplane_url.rstrip("/")
        self._pool = urllib3.connection_from_url(self._url, maxsize=_CONNECTIONS, timeout=_TIMEOUT)
        self._prefix = urllib3.util.parse_url(self._url).path or ""
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers["X-Salus-Workspace"] = session.settings.workspace
        if session.settings.token:
            self._headers["Authorization"] = f"Bearer {session.settings.token}"

    def predict(
        self,
        endpoint: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        keys: Sequence[str] | None = None,
        event_ms: Sequence[int] | None = None,
    ) -> list[Prediction]:
        """One prediction for each of `rows` (a column's value by its name; None is a missing value).

        Args:
            keys: one text for each row: rows with the same key are answered by the same model during a rollout, and a
                label may name it instead of the prediction's id.
            event_ms: when each row happened, milliseconds since 1970; now where not given.

        Raises:
            InvalidInput: a row does not fit the model; `path` says where.
            NotFound: no such endpoint.
            Unavailable: the data plane cannot be reached.
        """
        if isinstance(rows, Mapping):
            raise InvalidInput("rows is a list of rows, got one row", path="rows", remedy="Write [row].")
        body = _encode(_Question(rows=rows, keys=keys, event_ms=event_ms))
        response = self._post(f"{self._prefix}/predict/{quote(endpoint, safe='')}", body)
        if response.status == 200:
            return _decode(response.data).predictions
        try:
            raise from_problem(msgspec.json.decode(response.data, type=Problem))
        except msgspec.DecodeError:
            raise SalusError(f"{self._url} answered {response.status}: {response.data[:200]!r}") from None

    def _post(self, target: str, body: bytes) -> urllib3.BaseHTTPResponse:
        """A connection that the other side had closed meanwhile is opened anew, once; nothing else is repeated."""
        for last in (False, True):
            try:
                return self._pool.urlopen("POST", target, body, self._headers, retries=False, redirect=False)
            except (urllib3.exceptions.ProtocolError, urllib3.exceptions.NewConnectionError) as error:
                if last:
                    raise self._away(error) from error
            except urllib3.exceptions.HTTPError as error:
                raise self._away(error) from error
        raise AssertionError("unreachable")

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"no answer from the data plane at {self._url}: {error}",
            remedy="Start it with 'salus up' or 'salus serve', or set SALUS_SERVE_URL to where it runs.",
            retry_after_s=1.0,
        )

    def close(self) -> None:
        """Lets go of the connections."""
        self._pool.close()


class EndpointsClient:
    """What a program can do with endpoints."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(
        self,
        name: str,
        *,
        task: Task | None = None,
        key_column: str | None = None,
        lookups: Sequence[FeatureLookup] = (),
        label_delay_s: float = 0.0,
        description: str = "",
    ) -> Endpoint:
        """Makes the endpoint, or describes it anew."""
        body = PutEndpoint(
            task=task,
            key_column=key_column,
            lookups=tuple(lookups),
            label_delay_s=label_delay_s,
            description=description,
        )
        return self._session.call("PUT", path("endpoints", name), body=body, expect=Endpoint)

    def list(self) -> list[Endpoint]:
        """All endpoints by name."""
        return self._session.call("GET", path("endpoints"), expect=list[Endpoint])

    def get(self, name: str) -> EndpointDetail:
        """One endpoint with its split, revisions and rollout."""
        return self._session.call("GET", path("endpoints", name), expect=EndpointDetail)

    def deploy(
        self,
        name: str,
        model: str,
        version: str,
        *,
        strategy: Strategy | None = None,
        reason: str = "",
        override: bool = False,
    ) -> Rollout:
        """Begins to bring a model version (or alias) into service; by canary unless `strategy` says otherwise.

        Raises:
            Denied: the version is not approved, and no `override` with a `reason` was given.
        """
        body = StartRollout(
            model=model, version=version, strategy=strategy or Strategy(), reason=reason, override=override
        )
        return self._session.call("POST", path("endpoints", name, "rollouts"), body=body, expect=Rollout, once=True)

    def rollouts(self, name: str, limit: int = 50) -> Sequence[Rollout]:
        """The endpoint's rollouts, newest first."""
        query = {"limit": limit}
        found = self._session.call("GET", path("endpoints", name, "rollouts"), query=query, expect=Page[Rollout])
        return found.items

    def rollout(self, rollout_id: str) -> RolloutDetail:
        """One rollout with the looks of its chart."""
        return self._session.call("GET", path("rollouts", rollout_id), expect=RolloutDetail)

    def wait(self, rollout_id: str, timeout_s: float = 60.0) -> Rollout:
        """The rollout once it has ended, or as it stands after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while True:
            rollout = self.rollout(rollout_id).rollout
            if not rollout.under_way or time.monotonic() >= until:
                return rollout
            time.sleep(_POLL_S)

    def promote(self, rollout_id: str, reason: str = "") -> Rollout:
        """Promotes the challenger now."""
        body = Reason(reason=reason)
        return self._session.call("POST", path("rollouts", rollout_id, "promote"), body=body, expect=Rollout)

    def rollback(self, name: str, reason: str = "") -> Rollout:
        """Ends the endpoint's rollout under way; without one, goes back to what was live before."""
        body = Reason(reason=reason)
        return self._session.call("POST", path("endpoints", name, "rollback"), body=body, expect=Rollout)

    def shadow(self, name: str, versions: Sequence[str]) -> EndpointDetail:
        """From now on exactly these versions (`model@version`) answer every request unseen."""
        body = PutShadows(versions=tuple(versions))
        return self._session.call("PUT", path("endpoints", name, "shadows"), body=body, expect=EndpointDetail)

    def label(self, name: str, labels: Sequence[Label]) -> LabelsAccepted:
        """Says what became of predictions: all of them or none. Safe to repeat."""
        body = PostLabels(labels=tuple(labels))
        return self._session.call("POST", path("endpoints", name, "labels"), body=body, expect=LabelsAccepted)

    def predictions(self, name: str, limit: int = 50) -> Sequence[PredictionRow]:
        """The newest predictions in event time, with their shadows' answers."""
        query = {"limit": limit}
        found = self._session.call(
            "GET", path("endpoints", name, "predictions"), query=query, expect=Page[PredictionRow]
        )
        return found.items

    def outcomes(self, name: str, *, from_ms: int, to_ms: int, columns: Sequence[str] | None = None) -> Any:
        """Predictions with an event time in [from_ms, to_ms) and their labels, as a Polars DataFrame."""
        query = {"from_ms": from_ms, "to_ms": to_ms, "column": columns}
        raw = self._session.send("GET", path("endpoints", name, "outcomes"), query=query)
        return load("polars:read_ipc")(raw)

    def completeness(self, name: str, *, from_ms: int, to_ms: int) -> Completeness:
        """How many live predictions of that stretch have their label."""
        query = {"from_ms": from_ms, "to_ms": to_ms}
        return self._session.call("GET", path("endpoints", name, "completeness"), query=query, expect=Completeness)

    def planes(self) -> Sequence[Plane]:
        """All data planes, newest first."""
        return self._session.call("GET", path("serving", "planes"), expect=list[Plane])
