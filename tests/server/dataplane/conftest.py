"""A small real control plane over HTTP that speaks the wire contract, real ONNX models, real `salus serve`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from salus.kernel.content import digest
from salus.kernel.schema import Column, Schema, Signature
from salus.serving.wire import (
    EndpointRoute,
    FeatureLookup,
    ModelFile,
    PredictionBatch,
    PredictionRecord,
    RevisionRoute,
    RouteTable,
    Weight,
)

INPUTS = Schema(
    columns=(
        Column(name="carrier", dtype="string"),
        Column(name="origin", dtype="string", nullable=False),
        Column(name="distance", dtype="float", nullable=False),
        Column(name="temp", dtype="float"),
    )
)
SIGNATURE = Signature(
    inputs=INPUTS, outputs=Schema(columns=(Column(name="probability", dtype="float"),)), task="binary"
)


def classifier(seed: int = 0, *, zipmap: Any = False) -> tuple[Any, bytes]:
    """A scikit-learn pipeline on strings and floats, and the same as ONNX."""
    rng = np.random.default_rng(seed)
    strings = np.stack([rng.choice(["UA", "AA", "DL"], 300), rng.choice(["EWR", "JFK"], 300)], axis=1)
    numbers = np.stack([rng.normal(1000, 300, 300), rng.normal(50, 15, 300)], axis=1)
    table = np.concatenate([strings.astype(object), numbers.astype(object)], axis=1)
    noise = rng.normal(size=300)
    late = (numbers[:, 0] / 1000 + (strings[:, 0] == "UA") + noise > 1.3).astype(int)
    parts = [("s", OneHotEncoder(handle_unknown="ignore"), [0, 1]), ("n", StandardScaler(), [2, 3])]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(table, late)
    types = [
        (c.name, StringTensorType([None, 1]) if c.dtype == "string" else FloatTensorType([None, 1]))
        for c in INPUTS.columns
    ]
    graph = to_onnx(model, initial_types=types, options={id(model): {"zipmap": zipmap}})
    return model, graph.SerializeToString()


def regressor() -> tuple[Any, bytes, Signature]:
    """A regression on one matrix input `X`, whose columns the signature names."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    model = LinearRegression().fit(x, x @ [2.0, -1.0] + 3.0)
    signature = Signature(
        inputs=Schema(columns=(Column(name="a", dtype="float"), Column(name="b", dtype="int"))),
        outputs=Schema(columns=(Column(name="value", dtype="float"),)),
        task="regression",
    )
    return model, to_onnx(model, x[:1]).SerializeToString(), signature


class Control:
    """The wire contract's other side, over real HTTP, in memory: routes, blobs, features, predictions, planes."""

    def __init__(self) -> None:
        self.table = RouteTable(epoch=0)
        self.blobs: dict[str, bytes] = {}
        self.online: list[dict[str, Any]] = []
        self.through: dict[str, int] = {}
        self.records: dict[str, PredictionRecord] = {}
        self.reports: list[dict[str, Any]] = []
        self.duplicates = 0
        self.changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Bound", (_Handler,), {"control": self}))
        server.daemon_threads = True
        self._server, self.port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            with self.changed:
                self._server, server = None, self._server
                self.changed.notify_all()
            server.shutdown()
            server.server_close()

    def add_blob(self, content: bytes) -> ModelFile:
        name = digest(content)
        self.blobs[name] = content
        return ModelFile(path="model.onnx", digest=name, size_bytes=len(content))

    def revision(self, name: str, content: bytes, signature: Signature = SIGNATURE) -> RevisionRoute:
        return RevisionRoute(
            revision=name, model="late", version=f"1.0.{name[-1]}", format="onnx",
            files=(self.add_blob(content),), signature=signature,
        )  # fmt: skip

    def route(
        self,
        revisions: list[RevisionRoute],
        shares: dict[str, float],
        *,
        endpoint: str = "late",
        shadows: tuple[str, ...] = (),
        lookups: tuple[FeatureLookup, ...] = (),
        key_column: str | None = None,
    ) -> None:
        """A new table with one endpoint."""
        split = tuple(Weight(revision=name, share=share) for name, share in shares.items())
        route = EndpointRoute(
            endpoint=endpoint, workspace="default", task=revisions[0].signature.task, split=split,
            shadows=shadows, salt="s", key_column=key_column, lookups=lookups,
        )  # fmt: skip
        with self.changed:
            self.table = RouteTable(epoch=self.table.epoch + 1, endpoints=(route,), revisions=tuple(revisions))
            self.changed.notify_all()

    def push(self, view: str, key: str, event_ms: int, values: dict[str, Any]) -> None:
        with self.changed:
            self.online.append({"view": view, "key": [key], "event_ms": event_ms, "values": values})
            self.changed.notify_all()

    def wait_for(self, ready: Callable[[], bool], wait_s: float = 20.0) -> bool:
        """Whether `ready` holds, or comes to hold within `wait_s` while the server lives."""
        with self.changed:
            return self.changed.wait_for(lambda: ready() or self._server is None, wait_s) and ready()

    def take(self, raw: bytes) -> int | str:
        """Takes a batch in, exactly once; the text of the refusal where it leaves a gap."""
        batch = msgspec.msgpack.decode(raw, type=PredictionBatch)
        with self.changed:
            held = self.through.get(batch.plane, 0)
            if batch.first_seq > held + 1:
                return f"{batch.plane}: expected seq {held + 1}, got {batch.first_seq}"
            assert [r.seq for r in batch.records] == list(range(batch.first_seq, batch.last_seq + 1))
            for record in batch.records:
                if record.seq <= held:
                    self.duplicates += 1
                else:
                    self.records[f"{batch.plane}-{record.seq:x}"] = record
            self.through[batch.plane] = max(held, batch.last_seq)
            self.changed.notify_all()
            return self.through[batch.plane]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control: Control

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: bytes = b"", kind: str = "application/msgpack") -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_GET(self) -> None:
        control, url = self.control, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/v1/serving/routes":
            if control.wait_for(lambda: control.table.epoch != int(query["after"])):
                self._send(200, msgspec.msgpack.encode(control.table))
            else:
                self._send(204)
        elif url.path == "/api/v1/features/online/changes":
            after = int(query["after"])
            if control.wait_for(lambda: len(control.online) > after, float(query["wait_s"])):
                rows = control.online[after:]
                self._send(200, msgspec.msgpack.encode({"cursor": after + len(rows), "rows": rows}))
            else:
                self._send(204)
        elif url.path.startswith("/api/v1/blobs/") and url.path[14:] in control.blobs:
            self._send(200, control.blobs[url.path[14:]], "application/octet-stream")
        else:
            self._send(404, b'{"type":"urn:salus:not-found","title":"Not found","status":404,"detail":"no"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/v1/serving/predictions":
            taken = self.control.take(body)
            if isinstance(taken, int):
                self._send(200, json.dumps({"through_seq": taken}).encode(), "application/json")
            else:
                problem = {"type": "urn:salus:conflict", "title": "Gap", "status": 409, "detail": taken}
                self._send(409, json.dumps(problem).encode(), "application/problem+json")
        elif self.path == "/api/v1/serving/planes":
            with self.control.changed:
                self.control.reports.append(json.loads(body))
                self.control.changed.notify_all()
            self._send(200, b"{}", "application/json")
        else:
            self._send(404)


class Plane:
    """A running `salus serve`, as its own process."""

    def __init__(self, home: Path, url: str, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.home = home
        self.log = home.with_suffix(".log")
        env = {**os.environ, "SALUS_HOME": str(home), "SALUS_URL": url}
        env |= {"SALUS_SERVE_PORT": str(self.port), **environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from salus.cli.main import main; main()", "serve"],
                env=env, stdout=log, stderr=log,
            )  # fmt: skip

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and decoded body of one request; `body` is sent as JSON unless it is bytes."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_json = "json" in found.get("content-type", "")
        return answer.status, found, json.loads(content) if is_json and content else content.decode()

    def predict(self, rows: list[dict[str, Any]], endpoint: str = "late", **more: Any) -> list[dict[str, Any]]:
        status, _, body = self.call("POST", f"/predict/{endpoint}", {"rows": rows, **more})
        assert status == 200, body
        predictions: list[dict[str, Any]] = body["predictions"]
        return predictions

    def until(self, found: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """What `found` gives as soon as it gives something."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if value := found():
                    return value
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"it did not come to pass; the log says:\n{self.log.read_text()[-3000:]}")

    def ready(self, epoch: int = 0) -> Plane:
        def look() -> bool:
            status, _, body = self.call("GET", "/readyz")
            return status == 200 and body["epoch"] >= epoch

        self.until(look)
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


@pytest.fixture(scope="session")
def onnx_models() -> list[bytes]:
    """Two classifiers with the same signature that give different answers."""
    return [classifier(0)[1], classifier(7)[1]]


@pytest.fixture
def control() -> Iterator[Control]:
    """A control plane with nothing deployed."""
    control = Control()
    control.start()
    yield control
    control.stop()


@pytest.fixture
def start_plane(tmp_path: Path, control: Control) -> Iterator[Callable[..., Plane]]:
    """Starts `salus serve` in the test's folder; whatever still runs is ended after the test."""
    planes: list[Plane] = []

    def start(home: str = "home", **environment: str) -> Plane:
        planes.append(Plane(tmp_path / home, control.url, **environment))
        return planes[-1]

    yield start
    for plane in planes:
        if plane.process.poll() is None:
            plane.kill()


@pytest.fixture
def make_classifier() -> Callable[..., tuple[Any, bytes]]:
    """Makes a classifier on `signature`, as scikit-learn and as ONNX."""
    return classifier


@pytest.fixture
def make_regressor() -> Callable[[], tuple[Any, bytes, Signature]]:
    """Makes a regression on one matrix, as scikit-learn and as ONNX, with its signature."""
    return regressor


@pytest.fixture
def signature() -> Signature:
    """What `onnx_models` take and give."""
    return SIGNATURE


@pytest.fixture
def row() -> dict[str, Any]:
    """A lawful row."""
    return {"carrier": "UA", "origin": "EWR", "distance": 1400.0, "temp": 39.5}
