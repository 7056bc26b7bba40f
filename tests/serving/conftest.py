"""An endpoint in a database: versions to deploy, and a data plane that ships what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from salus.backends.files import FileBlobs
from salus.kernel.clock import FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.identity import Actor
from salus.kernel.policy import Gate
from salus.kernel.schema import Column, Schema, Signature, Task
from salus.kernel.segments import Segments
from salus.kernel.subscriptions import Dispatcher
from salus.registry import service as registry
from salus.registry import store as registry_store
from salus.registry.model import ModelVersion, PutModel
from salus.serving.model.labels import Label, LabelsAccepted, PostLabels
from salus.serving.model.predictions import Shipped
from salus.serving.model.rollouts import EndpointDetail, Rollout, StartRollout, Strategy
from salus.serving.service import endpoints, labels, predictions, rollouts
from salus.serving.service.watch import SUBSCRIPTION
from salus.serving.wire import Answer, PredictionBatch, PredictionRecord

MINUTE_MS = 60_000
OUTPUTS: dict[str, str] = {"binary": "probability", "regression": "value"}

Answering = Callable[[int], Sequence[Answer]]


def signature(task: Task = "binary", inputs: Sequence[Column] = ()) -> Signature:
    """Two inputs, and the output that the task asks for."""
    columns = tuple(inputs) or (Column(name="temp", dtype="float"), Column(name="carrier", dtype="string"))
    outputs = Schema(columns=(Column(name=OUTPUTS.get(task, "label"), dtype="float"),))
    return Signature(inputs=Schema(columns=columns), outputs=outputs, task=task)


class World:
    """The endpoint `delay`, its versions, and the data plane `pln_a`."""

    def __init__(self, database: SqlDatabase, segments: Segments, actor: Actor) -> None:
        self.database = database
        self.segments = segments
        self.actor = actor
        self.gate = Gate()
        self.next_seq: dict[str, int] = {}

    def version(self, number: str, task: Task = "binary", **fields: Any) -> str:
        """Makes `delay@number` deployable and returns the number."""
        made: dict[str, Any] = {
            "model": "delay",
            "version": number,
            "flavour": "onnx",
            "state": "approved",
            "digest": "sha256:0",
            "files": (),
            "signature": signature(task),
            "metrics": {},
            "params": {},
            "datasets": (),
            "features": (),
            "run_id": None,
            "pipeline_run": None,
            "input_example": (),
            "input_profile": None,
            "output_profile": None,
            "gates": (),
            "approval": None,
            "aliases": (),
            "tags": {},
            "created_ms": 0,
            "created_by": "ann",
        }
        found = ModelVersion(**{**made, **fields})
        self.write(registry.put_model, self.actor, "delay", PutModel())
        self.write(registry_store.add_version, self.actor.workspace, found)
        return number

    def write(self, use_case: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One use case in its transaction."""
        return self.database.write(lambda tx: use_case(tx, *args, **kwargs))

    def read(self, use_case: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One use case that only looks."""
        return self.database.read(lambda reader: use_case(reader, *args, **kwargs))

    def deploy(self, number: str, strategy: Strategy | None = None, **fields: Any) -> Rollout:
        """Starts a rollout of `delay@number`."""
        body = StartRollout(model="delay", version=number, strategy=strategy or Strategy(), **fields)
        return self.write(rollouts.start_rollout, self.actor, "delay", body, gate=self.gate)

    def show(self) -> EndpointDetail:
        """The endpoint as it stands."""
        return self.read(endpoints.describe_endpoint, self.actor, "delay")

    def rollout(self, rollout_id: str) -> Rollout:
        """The rollout as it stands."""
        return self.read(rollouts.get_rollout, self.actor, rollout_id)

    def live(self) -> str:
        """The live revision."""
        return self.show().endpoint.live or ""

    def batch(
        self, count: int, answering: Answering, *, plane: str = "pln_a", first_seq: int | None = None
    ) -> PredictionBatch:
        """`count` records of the plane, a minute apart in event time."""
        first = first_seq or self.next_seq.get(plane, 1)
        records = tuple(
            PredictionRecord(
                seq=seq,
                endpoint="delay",
                event_ms=seq * MINUTE_MS,
                at_ms=seq,
                key=f"flight-{seq}",
                inputs={"temp": seq / 10, "carrier": "UA"},
                answers=tuple(answering(seq)),
            )
            for seq in range(first, first + count)
        )
        self.next_seq[plane] = first + count
        return PredictionBatch(plane=plane, first_seq=first, last_seq=first + count - 1, records=records)

    def ship(self, batch: PredictionBatch, actor: Actor | None = None) -> Shipped:
        """The batch as the route takes it in."""
        who = actor or self.actor
        decoded = predictions.decode_batch(msgspec.msgpack.encode(batch))
        known = self.read(predictions.intake, who, decoded)
        prepared = predictions.prepare(decoded, known, self.segments, who.workspace)
        shipped = self.write(predictions.record_predictions, who, prepared, self.segments)
        assert shipped is not None
        return shipped

    def label(self, *items: Label) -> LabelsAccepted:
        """Labels as the route takes them in."""
        return self.write(labels.record_labels, self.actor, "delay", PostLabels(labels=items))

    def deliver(self) -> None:
        """Lets the subscription handle all news."""
        dispatcher = Dispatcher(self.database, [SUBSCRIPTION])
        while dispatcher.run_once():
            pass


@pytest.fixture
def world(database: SqlDatabase, blobs: FileBlobs, actor: Actor, clock: FrozenClock) -> World:
    """A world in an empty database."""
    return World(database, Segments(blobs, clock=clock), actor)


@pytest.fixture
def answer() -> Callable[..., Answer]:
    """An answer with a probability: `answer(revision, 0.3)`."""

    def make(
        revision: str,
        probability: float | None = 0.5,
        *,
        role: Any = "live",
        error: str | None = None,
        latency_us: int = 300,
    ) -> Answer:
        output = None if error is not None else {"probability": probability}
        return Answer(revision, role, output, error, latency_us)

    return make
