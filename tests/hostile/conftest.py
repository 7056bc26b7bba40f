"""A control plane with one of everything in it, a lawful request for every route, and a way to send any bytes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import urllib3

from salus.kernel import ledger
from salus.kernel.content import digest
from salus.testing import fixtures
from salus.testing.clinic import SIGNATURE, Clinic, day_rows
from salus.testing.servers import RunningServer, running_server, settings_in

API = "/api/v1"
JSON = "application/json"
PROBLEM = "application/problem+json"
DOCUMENTED = {501, 503, 507}
"""The only answers of the 5xx kind that a client may ever see."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    media_type: str
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The error as it travels; fails the test where it is not one that helps."""
        assert self.media_type.startswith(PROBLEM), (self.status, self.media_type, self.body[:300])
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        assert found["detail"]
        assert found["type"].startswith("urn:salus:")
        assert found["title"]
        return found


class Town:
    """A control plane in which an endpoint answers, with a dataset, a feature view, a run, a pipeline and a job."""

    def __init__(self, server: RunningServer, engine: str) -> None:
        self.server = server
        self.engine = engine
        self.pool = urllib3.PoolManager(maxsize=80, retries=False, timeout=urllib3.Timeout(30.0))
        self.clinic = Clinic(server.session, rows=20)
        self.names: dict[str, str] = {}
        self.table = day_rows(np.random.default_rng(0), 0, 5)
        self.parquet = self._parquet()
        self._settle()

    def send(
        self, method: str, address: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Sends bytes as they are to a path of the server."""
        sent = {"Content-Type": JSON, **(headers or {})} if body is not None else headers
        answer = self.pool.urlopen(method, self.server.url + address, body=body, headers=sent, assert_same_host=False)
        return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.data)

    def json(self, method: str, address: str, body: Any = None) -> Any:
        """The answer to a lawful request."""
        answer = self.send(method, API + address, None if body is None else json.dumps(body).encode())
        assert answer.status < 300, (method, address, answer.body)
        return json.loads(answer.body)

    def head(self) -> int:
        """How many entries the ledger has."""
        return self.server.context.database.read(ledger.head)

    def entries_of_clients(self, after: int) -> list[str]:
        """Kinds of the entries behind `after` that a client caused, not Salus itself."""
        entries = self.server.context.database.read(lambda reader: ledger.read(reader, after=after, limit=1_000))
        return [entry.kind for entry in entries if entry.actor == "local"]

    def operations(self) -> list[Operation]:
        """Every operation of the server's own OpenAPI document."""
        document = json.loads(self.send("GET", "/schema/openapi.json").body)
        return [
            Operation(method.upper(), template, operation.get("parameters", []), "requestBody" in operation)
            for template, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def address(self, template: str, **changes: str) -> str:
        """A template with the names of what is there, or with `changes`."""
        slice_ = template.removeprefix(API).split("/")[1]

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            return changes.get(name) or self.names.get(f"{slice_}.{name}") or self.names.get(name) or "nothing"

        return re.sub(r"{(\w+)}", fill, template)

    def lawful(self, method: str, template: str) -> Any:
        """A body that the route takes, with every field that has laws."""
        return self.bodies()[f"{method} {template.removeprefix(API)}"]

    def bodies(self) -> dict[str, Any]:
        """A lawful body for each route that takes JSON."""
        column = {"name": "temp", "dtype": "float", "nullable": True}
        schema = {"columns": [column]}
        signature = json.loads(msgspec.json.encode(SIGNATURE))
        file = {"digest": self.parquet}
        epoch = {"epoch": 1, "progress": {"ratio": 0.5, "text": "half", "log_tail": "so far"}}
        gate = {"name": "quality", "passed": True, "reason": "it is", "evidence": {"a": 1}}
        strategy = {"kind": "canary", "steps": [0.05], "mirror": True, "min_rows": 100, "margin": 0.0}
        point = {"key": "loss", "value": 0.5, "step": 1, "at_ms": 1_000}
        step = {
            "name": "one",
            "function": "m:one",
            "code": "sha256:1",
            "arguments": {"n": {"type": "parameter", "name": "n"}, "k": {"type": "constant", "value": 1}},
            "outputs": ["result"],
            "retries": 1,
            "timeout_s": 60.0,
            "backoff_s": 1.0,
            "concurrency_key": "c",
            "concurrency_limit": 1,
        }
        policy = {
            "pipeline": "sums",
            "endpoint": "delay",
            "holdout_s": 1.0,
            "window_s": 1.0,
            "min_labelled": 10,
            "gate": {"level": 0.9, "margin": 0.0, "min_rows": 10, "min_days": 2},
            "rollout": strategy,
            "parameters": {"n": 1},
        }
        return {
            "POST /tokens": {"principal": "ann", "role": "viewer"},
            "POST /experiments": {"name": "delays"},
            "POST /runs": {
                "experiment": "delays",
                "name": "first",
                "parameters": {"depth": 6},
                "tags": {"team": "a"},
                "context": {"git_commit": "abc", "packages": {"numpy": "2"}, "inputs": ["dataset_version:f@1"]},
                "started_ms": 1_000,
            },
            "POST /runs/{run_id}/log": {"points": [point], "parameters": {"depth": 6}, "tags": {"team": "a"}},
            "POST /runs/{run_id}/finish": {"state": "finished", "ended_ms": 9_000_000_000_000},
            "PUT /datasets/{name}": {
                "description": "d",
                "schema": schema,
                "expectations": [{"type": "between", "column": "temp", "low": 0.0, "high": 1.0}],
                "event_time": None,
            },
            "POST /datasets/{name}/versions": {"files": [file], "message": "m", "mode": "append"},
            "POST /datasets/{name}/validate": {"files": [file], "message": "m", "mode": "append"},
            "PUT /features/views/{name}": {
                "entity": "airport",
                "keys": ["origin"],
                "event_time": "at",
                "features": [column],
                "ttl_s": 60.0,
                "online_depth": 4,
                "description": "d",
            },
            "POST /features/online/read": {"view": "weather", "keys": [["JFK"]], "at_ms": 1_000},
            "PUT /features/services/{name}": {
                "views": [{"view": "weather", "features": ["temp"], "keys": {"origin": "from"}}],
                "description": "d",
            },
            "PUT /models/{name}": {"description": "d", "tags": {"a": "b"}, "approval": None, "required_gates": ["q"]},
            "POST /models/{name}/versions": {
                "flavour": "onnx",
                "files": [{"path": "model.onnx", "digest": self.parquet, "size_bytes": 1}],
                "signature": signature,
                "datasets": ["flights@1"],
                "features": ["weather"],
                "metrics": {"loss": 0.5},
                "params": {"depth": 6},
                "input_example": [{"x": 1.0, "temp": 1.0, "carrier": "AA"}],
                "bump": "auto",
            },
            "POST /models/{name}/versions/{version}/gates": {"gates": [gate]},
            "POST /models/{name}/versions/{version}/approval": {"decision": "approved", "reason": "good"},
            "PUT /models/{name}/aliases/{alias}": {"version": "1.0.0"},
            "PUT /pipelines/{name}": {
                "entrypoint": "m.py:sums",
                "graph": {"steps": [step], "result": {"type": "step", "step": "one", "output": "result"}},
                "parameters": [{"name": "n", "type": "int", "required": False, "default": 1}],
                "project": "p",
                "description": "d",
            },
            "POST /pipelines/{name}/runs": {
                "parameters": {"n": 1},
                "use_cache": True,
                "trigger": "alert:1",
                "idempotency_key": None,
            },
            "PUT /pipelines/{name}/schedules/{schedule}": {"cron": "0 0 1 1 *", "parameters": {"n": 1}},
            "POST /jobs/claim": {
                "worker": "w",
                "kinds": ["none"],
                "queues": ["default"],
                "limit": 1,
                "wait_s": 0.0,
                "lease_s": 30.0,
            },
            "POST /jobs/{job_id}/heartbeat": epoch,
            "POST /jobs/{job_id}/complete": {**epoch, "result": {"outputs": {}}},
            "POST /jobs/{job_id}/fail": {**epoch, "error": "e", "traceback": "t", "retry": True},
            "POST /jobs/{job_id}/release": {"epoch": 1},
            "PUT /endpoints/{name}": {
                "task": None,
                "key_column": "carrier",
                "lookups": [{"view": "weather", "keys": ["carrier"], "features": ["temp"], "ttl_s": 60.0}],
                "label_delay_s": 60.0,
                "description": "d",
            },
            "PUT /endpoints/{name}/shadows": {"versions": ["delay@1.0.0"]},
            "POST /endpoints/{name}/rollouts": {
                "model": "delay",
                "version": "1.0.0",
                "strategy": strategy,
                "reason": "r",
                "override": False,
            },
            "POST /endpoints/{name}/rollback": {"reason": "r"},
            "POST /rollouts/{rollout_id}/promote": {"reason": "r"},
            "POST /rollouts/{rollout_id}/rollback": {"reason": "r"},
            "POST /endpoints/{name}/labels": {
                "labels": [{"value": 1, "event_ms": 1_400_000_000_000, "prediction_id": f"{self.clinic.plane}-1"}]
            },
            "POST /serving/planes": {
                "plane": "pln_other",
                "started_ms": 1,
                "epoch": 0,
                "counters": {"answered": 1.0},
                "problems": ["none"],
                "address": "here",
            },
            "PUT /endpoints/{name}/watch": {
                "window_s": 3_600.0,
                "grace_s": 60.0,
                "label_delay_s": 60.0,
                "false_alarms_per_year": 1.0,
                "tolerance_ratio": 0.05,
                "max_latency_ms": 100.0,
            },
            "PUT /policies/{model}": policy,
            "POST /policies/{model}/retrain": {"reason": "r"},
        }

    def feature_rows(self, **columns: Any) -> bytes:
        """An Arrow file of one row for the view `weather`, with `columns` instead of its own."""
        made = {"origin": ["JFK"], "at": [1_000], "temp": [1.0], **columns}
        frame = pl.DataFrame({name: values for name, values in made.items() if values is not None})
        if "at" in frame.columns and frame["at"].dtype == pl.Int64:
            frame = frame.with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC")))
        buffer = io.BytesIO()
        frame.write_ipc(buffer)
        return buffer.getvalue()

    def _parquet(self) -> str:
        buffer = io.BytesIO()
        self.table.write_parquet(buffer)
        self.send("PUT", f"{API}/blobs", buffer.getvalue(), {"Content-Type": "application/octet-stream"})
        return digest(buffer.getvalue())

    def _settle(self) -> None:
        bodies = self.bodies()
        version = self.clinic.register()
        self.clinic.deploy(version)
        self.clinic.live_day(0)
        self.json("POST", "/datasets/flights/versions", bodies["POST /datasets/{name}/versions"])
        self.json("PUT", "/features/views/weather", bodies["PUT /features/views/{name}"])
        pushed = self.send("POST", f"{API}/features/views/weather/rows", self.feature_rows())
        assert pushed.status == 200, pushed
        self.json("PUT", "/features/services/delays", bodies["PUT /features/services/{name}"])
        run = self.json("POST", "/runs", bodies["POST /runs"])
        self.json("POST", f"/runs/{run['id']}/log", bodies["POST /runs/{run_id}/log"])
        self.json("PUT", "/pipelines/sums", bodies["PUT /pipelines/{name}"])
        flow = self.json("POST", "/pipelines/sums/runs", {})
        self.json("PUT", "/pipelines/sums/schedules/nightly", bodies["PUT /pipelines/{name}/schedules/{schedule}"])
        (job,) = self.json("POST", "/jobs/claim", {"worker": "w", "lease_s": 600.0})
        rollout = self.json("GET", "/endpoints/delay/rollouts")["items"][0]
        self.names = {
            "digest": self.parquet,
            "runs.run_id": run["id"],
            "key": "loss",
            "path": "a.txt",
            "datasets.name": "flights",
            "datasets.version": "1",
            "features.name": "weather",
            "models.name": "delay",
            "models.version": "1.0.0",
            "alias": "champion",
            "pipelines.name": "sums",
            "schedule": "nightly",
            "pipeline-runs.run_id": flow["id"],
            "job_id": job["id"],
            "endpoints.name": "delay",
            "rollout_id": rollout["id"],
            "policies.model": "delay",
        }


class Operation(msgspec.Struct, frozen=True):
    """One operation of the OpenAPI document."""

    method: str
    template: str
    parameters: list[dict[str, Any]]
    takes_json: bool

    @property
    def is_endless(self) -> bool:
        """Whether its answer never ends (the live feed)."""
        return self.template == f"{API}/live"


def judge(town: Town, answer: Answer, head: int, what: object) -> None:
    """The law of every answer: no failure of ours; a refusal says why and has written nothing."""
    assert answer.status < 500 or answer.status in DOCUMENTED, (what, answer.status, answer.body[:400])
    if answer.status < 400:
        return
    problem = answer.problem
    if "refused" not in problem["detail"]:
        assert town.entries_of_clients(head) in ([], ["BatchRefused"]), (what, problem)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One for all tests of a file, on each engine: they only ask for what leaves it whole."""
    folder = tmp_path_factory.mktemp("town")
    if request.param == "sqlite":
        with running_server(settings_in(folder)) as running:
            yield Town(running, "sqlite")
        return
    engine: fixtures.PostgresServer = request.getfixturevalue("postgres")
    name = engine.lend()
    with running_server(settings_in(folder, database=engine.address(name))) as running:
        yield Town(running, "postgres")
    engine.take_back(name)


@pytest.fixture(scope="session")
def check() -> Callable[[Town, Answer, int, object], None]:
    """The judge of answers."""
    return judge
