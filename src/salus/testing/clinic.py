"""An endpoint with a known truth behind it: a stream of days whose faults and changes a test chooses.

The model says `sigmoid(-1 + 1.5 x)`. On quiet days that is the truth; `temp` (°F, read in steps of 0.1 °C) and
`carrier` mean nothing. Everything goes over HTTP as a data plane and a client would send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.kernel.ids import new_id
from salus.kernel.schema import Column, Schema, Signature
from salus.registry.client import RegistryClient
from salus.registry.model import ModelVersion, NewGate
from salus.sdk.session import Session, path
from salus.serving.model.endpoints import PutEndpoint
from salus.serving.model.rollouts import EndpointDetail, StartRollout, Strategy
from salus.serving.wire import Answer, PredictionBatch, PredictionRecord, prediction_id

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FIRST_DAY = 15_700
LABEL_WAIT_MS = 3 * HOUR_MS
ENDPOINT = "delay"
MODEL = "delay"

SIGNATURE = Signature(
    inputs=Schema(
        columns=(
            Column(name="x", dtype="float"),
            Column(name="temp", dtype="float"),
            Column(name="carrier", dtype="string"),
        )
    ),
    outputs=Schema(columns=(Column(name="probability", dtype="float", nullable=False),)),
    task="binary",
)


class Truth(msgspec.Struct, frozen=True):
    """What is true of a day: the label's log odds are `intercept + slope * x`, `x` is around `centre`, `temp`
    around `warmth` °C; `unknown` is the share of `temp` that is missing, `celsius`: it comes in °C, both from
    `from_hour` on; `failing` is the share of rows that the model fails on."""

    intercept: float = -1.0
    slope: float = 1.5
    centre: float = 0.0
    warmth: float = 10.0
    unknown: float = 0.0
    celsius: bool = False
    from_hour: int = 0
    failing: float = 0.0


QUIET = Truth()


def chance(intercept: float, slope: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """`sigmoid(intercept + slope x)`."""
    odds: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-(intercept + slope * x)))
    return odds


def day_rows(rng: np.random.Generator, day: int, rows: int, truth: Truth = QUIET) -> pl.DataFrame:
    """A day's rows in order of time: `event_ms`, the inputs, `label`, and the quiet truth as `probability`."""
    event_ms = np.sort(rng.integers(0, DAY_MS, rows)) + (FIRST_DAY + day) * DAY_MS
    x = rng.normal(truth.centre, 1.0, rows)
    later = (event_ms % DAY_MS) >= truth.from_hour * HOUR_MS
    celsius = np.round(truth.warmth + 4.0 * rng.normal() + 3.0 * rng.normal(size=rows), 1)
    temp = np.where(later & truth.celsius, celsius, np.round(celsius * 1.8 + 32.0, 2))
    gone = later & (rng.random(rows) < truth.unknown)
    label = rng.random(rows) < chance(truth.intercept, truth.slope, x)
    return pl.DataFrame(
        {
            "event_ms": event_ms,
            "x": x,
            "temp": [None if lost else value for lost, value in zip(gone.tolist(), temp.tolist(), strict=True)],
            "carrier": rng.choice(["AA", "B6", "UA"], rows, p=[0.5, 0.3, 0.2]),
            "label": label.astype(np.float64),
            "probability": chance(-1.0, 1.5, x),
        },
        schema_overrides={"temp": pl.Float64},
    )


def reference_rows(rng: np.random.Generator, days: int = 40, rows: int = 500) -> pl.DataFrame:
    """Quiet days before the first one, as a version's reference."""
    return pl.concat(day_rows(rng, day, rows) for day in range(-days, 0))


class Clinic:
    """The endpoint `delay`, its model `delay`, and the one data plane that answers for it."""

    def __init__(self, session: Session, *, seed: int = 0, rows: int = 500) -> None:
        self.session = session
        self.models = RegistryClient(session)
        self.rng = np.random.default_rng(seed)
        self.rows = rows
        self.plane = new_id("pln")
        self.seq = 0

    def register(self, files: Mapping[str, bytes] | None = None, **more: Any) -> ModelVersion:
        """An approved version, with a reference unless `more` says otherwise."""
        fields: dict[str, Any] = {"reference": reference_rows(self.rng), **more}
        version = self.models.register(MODEL, files or {"model.onnx": b"none"}, SIGNATURE, **fields)
        gate = NewGate(name="quality", passed=True, reason="a test says so")
        return self.models.check_gates(MODEL, version.version, [gate])

    def deploy(self, version: ModelVersion) -> EndpointDetail:
        """Everything to `version` at once."""
        url = path("endpoints", ENDPOINT)
        self.session.call("PUT", url, body=PutEndpoint(label_delay_s=LABEL_WAIT_MS / 1000 * 2))
        body = StartRollout(model=MODEL, version=version.version, strategy=Strategy(kind="all_at_once"))
        self.session.call("POST", path("endpoints", ENDPOINT, "rollouts"), body=body, once=True)
        return self.detail()

    def detail(self) -> EndpointDetail:
        """The endpoint as it is now."""
        return self.session.call("GET", path("endpoints", ENDPOINT), expect=EndpointDetail)

    def live_day(self, day: int, truth: Truth = QUIET) -> pl.DataFrame:
        """A day of requests, answered by what the endpoint serves now, and their labels three hours later each."""
        rows = day_rows(self.rng, day, self.rows, truth)
        detail = self.detail()
        self._ship(rows, detail, truth)
        self._label(rows)
        return rows

    def _ship(self, rows: pl.DataFrame, detail: EndpointDetail, truth: Truth) -> None:
        shares = [(weight.revision, weight.share) for weight in detail.split]
        records = []
        for index, row in enumerate(rows.iter_rows(named=True)):
            live = shares[0][0] if self.rng.random() < shares[0][1] else shares[-1][0]
            others = [revision for revision in detail.shadows if revision != live]
            failed = self.rng.random() < truth.failing
            answers = tuple(
                self._answer(revision, "live" if revision == live else "shadow", row, failed=failed)
                for revision in (live, *others)
            )
            records.append(
                PredictionRecord(
                    seq=self.seq + index + 1,
                    endpoint=ENDPOINT,
                    event_ms=row["event_ms"],
                    at_ms=row["event_ms"],
                    key=f"k{self.seq + index + 1}",
                    inputs={name: row[name] for name in SIGNATURE.inputs.names},
                    answers=answers,
                )
            )
        batch = PredictionBatch(
            plane=self.plane, first_seq=self.seq + 1, last_seq=self.seq + len(records), records=tuple(records)
        )
        raw = msgspec.msgpack.encode(batch)
        headers = {"Content-Type": "application/msgpack"}
        self.session.send("POST", path("serving", "predictions"), content=raw, headers=headers)
        self.seq += len(records)

    def _answer(self, revision: str, role: str, row: dict[str, Any], *, failed: bool) -> Answer:
        latency_us = int(self.rng.integers(80, 120))
        if failed:
            return Answer(revision, role, None, "the model failed", latency_us)  # type: ignore[arg-type]
        return Answer(revision, role, {"probability": self.says(revision, row)}, None, latency_us)  # type: ignore[arg-type]

    def says(self, revision: str, row: dict[str, Any]) -> float:
        """What a revision answers to a row: here every one says the quiet truth."""
        return float(row["probability"])

    def _label(self, rows: pl.DataFrame) -> None:
        first = self.seq - rows.height + 1
        labels = [
            {
                "prediction_id": prediction_id(self.plane, first + index),
                "value": int(row["label"]),
                "event_ms": row["event_ms"] + LABEL_WAIT_MS,
            }
            for index, row in enumerate(rows.iter_rows(named=True))
        ]
        url = path("endpoints", ENDPOINT, "labels")
        self.session.call("POST", url, body={"labels": labels})
