"""Single-row `POST /predict` against servers that answer a constant, in the same run, with the same client.

    python benchmarks/predict_latency.py [--seconds 4] [--rounds 3]

Compared: the data plane (ONNX classifier on 2 string and 4 float columns, every prediction on disk before its answer
and shipped to a control plane that acknowledges), a bare RSGI application on granian and a bare ASGI application on
uvicorn. The bare ones read the body and answer the same bytes. Client: `wrk` with one thread. Rounds alternate between
the servers and the best of each is told, since other load on the machine can only make a round worse.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from salus.kernel.content import digest
from salus.kernel.schema import Column, Schema, Signature
from salus.serving.wire import EndpointRoute, ModelFile, RevisionRoute, RouteTable, Weight

STRINGS, FLOATS = ("carrier", "origin"), ("distance", "hour", "temp", "wind")
BODY = json.dumps(
    {
        "rows": [{"carrier": "UA", "origin": "EWR", "distance": 1400.0, "hour": 7, "temp": 39.0, "wind": 12.6}],
        "keys": ["UA1545"],
        "event_ms": [1357034400000],
    }
)
ANSWER = (
    b'{"predictions":[{"id":"pln_01k9z8m1a0rm2x3v4w5y6z7b8c-1f","outputs":{"probability":0.2134567},'
    b'"model":"flight-delay","version":"1.0.0","revision":"rev_01k9z8m1a0rm2x3v4w5y6z7b8c"}]}'
)
RSGI = """
import sys, uvloop
from granian.server.embed import Server
HEADERS, ANSWER = [("content-type", "application/json")], {answer!r}
class App:
    async def __rsgi__(self, scope, proto):
        await proto()
        proto.response_bytes(200, HEADERS, ANSWER)
async def main():
    await Server(App(), port=int(sys.argv[1]), websockets=False, log_enabled=False).serve()
uvloop.run(main())
"""
ASGI = """
import sys, uvicorn
START = {{"type": "http.response.start", "status": 200,
         "headers": [(b"content-type", b"application/json"), (b"content-length", b"{size}")]}}
BODY = {{"type": "http.response.body", "body": {answer!r}}}
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off", loop="uvloop")
"""


def write_home(home: Path) -> None:
    """A data plane's folder as it is after it has been deployed to."""
    rng = np.random.default_rng(0)
    strings = np.stack([rng.choice(["UA", "AA", "DL"], 400), rng.choice(["EWR", "JFK"], 400)], axis=1)
    table = np.concatenate([strings.astype(object), rng.normal(size=(400, 4)).astype(object)], axis=1)
    parts = [("s", OneHotEncoder(), [0, 1]), ("n", StandardScaler(), [2, 3, 4, 5])]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(table, rng.integers(0, 2, 400))
    types = [(name, StringTensorType([None, 1])) for name in STRINGS]
    types += [(name, FloatTensorType([None, 1])) for name in FLOATS]
    content = to_onnx(model, initial_types=types, options={id(model): {"zipmap": False}}).SerializeToString()
    columns = tuple(Column(name=name, dtype="string") for name in STRINGS)
    columns += tuple(Column(name=name, dtype="float") for name in FLOATS)
    signature = Signature(
        inputs=Schema(columns=columns),
        outputs=Schema(columns=(Column(name="probability", dtype="float"),)),
        task="binary",
    )
    file = ModelFile(path="model.onnx", digest=digest(content), size_bytes=len(content))
    revision = RevisionRoute(
        revision="rev_01k9z8m1a0rm2x3v4w5y6z7b8c",
        model="flight-delay",
        version="1.0.0",
        format="onnx",
        files=(file,),
        signature=signature,
    )
    endpoint = EndpointRoute(
        endpoint="flight-delay",
        workspace="default",
        task="binary",
        split=(Weight(revision=revision.revision, share=1.0),),
    )
    folder = home / "serve"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / file.digest.removeprefix("blake3:")).write_bytes(content)
    table_bytes = msgspec.msgpack.encode(RouteTable(epoch=1, endpoints=(endpoint,), revisions=(revision,)))
    (folder / "routes.msgpack").write_bytes(table_bytes)


class Sink(BaseHTTPRequestHandler):
    """A control plane that has nothing new and acknowledges every batch."""

    protocol_version = "HTTP/1.1"
    closing = threading.Event()
    records = 0

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.closing.wait(20)
        self._send(204, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.endswith("predictions"):
            return self._send(200, b"{}")
        batch = msgspec.msgpack.decode(body[: body.index(b"records")] + b"records\x90")
        Sink.records += batch["last_seq"] - batch["first_seq"] + 1
        return self._send(200, json.dumps({"through_seq": batch["last_seq"]}).encode())

    def _send(self, status: int, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(arguments: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A server process, from when it answers."""
    process = subprocess.Popen(arguments, env={**os.environ, **(environment or {})})
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict/flight-delay", BODY.encode(), {"Content-Type": "application/json"}
        )
        for _ in range(200):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(request, timeout=5).read()
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{arguments} does not answer")
        yield
    finally:
        process.terminate()
        process.wait(20)


def wrk(script: Path, port: int, connections: int, seconds: float) -> dict[str, float]:
    """Requests per second and latency in microseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script)]
    command.append(f"http://127.0.0.1:{port}/predict/flight-delay")
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(text)

    def number(pattern: str) -> float:
        found = re.search(pattern, text)
        if found is None:
            raise RuntimeError(text)
        scale = {"us": 1.0, "ms": 1e3, "s": 1e6}.get(found.group(2) if found.lastindex == 2 else "", 1.0)
        return float(found.group(1)) * scale

    return {
        "per_s": number(r"Requests/sec:\s+([\d.]+)"),
        "p50_us": number(r"50%\s+([\d.]+)(us|ms|s)"),
        "p99_us": number(r"99%\s+([\d.]+)(us|ms|s)"),
    }


def main() -> None:
    """Runs and prints the table; exit code 1 when the data plane is below half of the bare RSGI server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt install wrk")
    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    sink.daemon_threads = True
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    best: dict[tuple[str, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        home, script = Path(folder) / "home", Path(folder) / "post.lua"
        write_home(home)
        script.write_text(f"wrk.method='POST'\nwrk.body=[[{BODY}]]\nwrk.headers['Content-Type']='application/json'\n")
        ports = [free_port() for _ in range(3)]
        size = len(ANSWER)
        environment = {"SALUS_HOME": str(home), "SALUS_URL": f"http://127.0.0.1:{sink.server_address[1]}"}
        serve = [sys.executable, "-c", "from salus.cli.main import main; main()", "serve", "--port"]
        with (
            running([*serve, str(ports[0])], ports[0], environment),
            running([sys.executable, "-c", RSGI.format(answer=ANSWER), str(ports[1])], ports[1]),
            running([sys.executable, "-c", ASGI.format(answer=ANSWER, size=size), str(ports[2])], ports[2]),
        ):
            for connections in (1, 16):
                for _ in range(options.rounds):
                    for name, port in zip(("salus serve", "bare RSGI", "bare ASGI"), ports, strict=True):
                        found = wrk(script, port, connections, options.seconds)
                        held = best.get((name, connections))
                        if held is None or found["per_s"] > held["per_s"]:
                            best[name, connections] = found
            time.sleep(1)
    Sink.closing.set()
    report(best)


def report(best: dict[tuple[str, int], dict[str, float]]) -> None:
    """Prints the table and ends the process by the aim."""
    print(f"{'server':<14}{'connections':>12}{'requests/s':>12}{'p50 us':>10}{'p99 us':>10}{'of RSGI':>10}")
    for (name, connections), found in best.items():
        ratio = found["per_s"] / best["bare RSGI", connections]["per_s"]
        print(
            f"{name:<14}{connections:>12}{found['per_s']:>12,.0f}{found['p50_us']:>10,.0f}"
            f"{found['p99_us']:>10,.0f}{ratio:>10.2f}"
        )
    print(f"records shipped meanwhile: {Sink.records:,}")
    worst = min(best["salus serve", c]["per_s"] / best["bare RSGI", c]["per_s"] for c in (1, 16))
    sys.exit(0 if worst >= 0.5 else 1)


if __name__ == "__main__":
    main()
