"""A clinic with real ONNX models, a pipeline, and a test that does the worker's work over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from salus.kernel.jobs import Job
from salus.pipelines.graph import Graph, Parameter, PutPipeline, StepNode
from salus.retraining.compare import compare_candidate
from salus.retraining.model import COMPARE_JOB
from salus.sdk.session import path
from salus.testing.clinic import MODEL, SIGNATURE, Clinic, chance
from salus.testing.servers import RunningServer

PIPELINE = "train_delay"


def graph(intercept: float, slope: float) -> bytes:
    """`sigmoid(intercept + slope x)` as ONNX, with the inputs of the clinic's signature, shape (n, 1) each."""

    def tensor(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(name, kind, [None, 1])

    made = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "slope"], ["scaled"]),
            helper.make_node("Add", ["scaled", "intercept"], ["odds"]),
            helper.make_node("Sigmoid", ["odds"], ["probability"]),
        ],
        "delay",
        [tensor("x", TensorProto.FLOAT), tensor("temp", TensorProto.FLOAT), tensor("carrier", TensorProto.STRING)],
        [tensor("probability", TensorProto.FLOAT)],
        [
            helper.make_tensor("slope", TensorProto.FLOAT, [1], [slope]),
            helper.make_tensor("intercept", TensorProto.FLOAT, [1], [intercept]),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


class Hospital(Clinic):
    """A clinic whose models are real: each revision answers by its own formula."""

    def __init__(self, server: RunningServer, *, seed: int = 0) -> None:
        super().__init__(server.session, seed=seed, rows=400)
        self.formulas: dict[str, tuple[float, float]] = {}
        self.learned: tuple[float, float] = (-1.0, 1.5)
        self.tasks: list[dict[str, Any]] = []
        self.known: dict[str, str] = {}

    def admit(self, intercept: float, slope: float, **more: Any) -> Any:
        """Registers a version with that formula."""
        version = self.register({"model.onnx": graph(intercept, slope)}, **more)
        self.formulas[version.version] = (intercept, slope)
        return version

    def says(self, revision: str, row: dict[str, Any]) -> float:
        """By the revision's own formula."""
        if revision not in self.known:
            self.known = {found.id: found.version for found in self.detail().revisions}
        return float(chance(*self.formulas[self.known[revision]], np.array([row["x"]]))[0])

    def put_pipeline(self) -> None:
        """A pipeline of one step, which the test carries out."""
        body = PutPipeline(
            entrypoint="train.py:train",
            graph=Graph(steps=(StepNode(name="train", function="train:train", code="sha256:1"),)),
            parameters=(
                Parameter(name="until_ms", type="int"),
                Parameter(name="excluded", type="json", required=False, default=[]),
                Parameter(name="champion", type="string"),
            ),
        )
        self.session.call("PUT", path("pipelines", PIPELINE), body=body)

    def work(self) -> int:
        """Does the jobs that are due, as a worker would."""
        body = {"worker": "test", "kinds": ["pipeline_step", COMPARE_JOB], "limit": 10, "wait_s": 0}
        claimed = self.session.call("POST", path("jobs", "claim"), body=body, expect=list[Job])
        for job in claimed:
            result = compare_candidate(job.payload, self.session) if job.kind == COMPARE_JOB else self._train(job)
            done = {"epoch": job.epoch, "result": result}
            self.session.call("POST", path("jobs", job.id, "complete"), body=done)
        return len(claimed)

    def _train(self, job: Job) -> dict[str, Any]:
        run = self.session.call("GET", path("pipeline-runs", job.payload["run"]), expect=dict[str, Any])
        self.tasks.append(run["run"]["parameters"])
        version = self.models.register(
            MODEL,
            {"model.onnx": graph(*self.learned)},
            SIGNATURE,
            pipeline_run=job.payload["run"],
        )
        self.formulas[version.version] = self.learned
        found = self.session.upload("PUT", path("blobs"), b"done")
        digest = msgspec.json.decode(found)["digest"]
        return {"outputs": {"result": {"digest": digest, "codec": "bytes", "size_bytes": 4}}}

    def eventually(self, ask: Callable[[], Any], wait_s: float = 20.0) -> Any:
        """The first true answer, while the jobs that come up are done."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            found = ask()
            if found:
                return found
            self.work()
            time.sleep(0.03)
        raise AssertionError("it did not happen in time")


@pytest.fixture
def hospital(server: RunningServer) -> Hospital:
    onnx.checker.check_model(onnx.load_from_string(graph(0.0, 1.0)))
    return Hospital(server)
