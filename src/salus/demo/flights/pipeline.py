"""The pipeline that trains the flight-delay model: first on a dataset version, later also on what the endpoint logged.

Salus hands a retraining its window and what to leave out; the same pipeline, started by hand, trains the first model.
"""

import time
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import log_loss, roc_auc_score

import salus
from salus.demo.flights import model

DATASET = "departures"
VIEWS = ["weather", "plane"]
MODEL = "flight-delay"
DAY_MS = 86_400_000
REFERENCE_ROWS = 45_000
LOGGED = [f"in.{name}" for name in model.FEATURES]


@salus.step(retries=1)
def newest(dataset: str) -> int:
    """The number of the dataset's newest version."""
    return salus.connect().data.version(dataset).version


@salus.step(cache=True, retries=1)
def recorded(dataset: str, version: int) -> pl.DataFrame:
    """The labelled rows of a dataset version with their features as of departure."""
    client = salus.connect()
    rows = client.data.read(dataset, version).filter(pl.col(model.LABEL).is_not_null())
    joined = client.features.history_join(rows, VIEWS).with_columns(
        event_ms=pl.col("event_time").dt.epoch("ms"), label=pl.col(model.LABEL).cast(pl.Float64)
    )
    return _typed(joined)


@salus.step(retries=1)
def collect(
    past: pl.DataFrame, endpoint: str, until_ms: int | None, holdout_days: float, excluded: list[list[int]]
) -> pl.DataFrame:
    """All labelled rows up to the hold-out's end: the dataset's, then those that the endpoint logged."""
    rows = past
    if endpoint and until_ms is not None:
        end_ms = until_ms + int(holdout_days * DAY_MS)
        logged = salus.connect().endpoints.outcomes(
            endpoint, from_ms=_newest_ms(rows) + 1, to_ms=end_ms, columns=["role", *LOGGED]
        )
        live = logged.filter((pl.col("role") == "live") & pl.col("label").is_not_null())
        renamed = live.rename(dict(zip(LOGGED, model.FEATURES, strict=True)))
        rows = pl.concat([rows, _typed(renamed)])
    for start_ms, end_ms in excluded:
        rows = rows.filter(~pl.col("event_ms").is_between(start_ms, end_ms, closed="left"))
    return rows.sort("event_ms")


@salus.step(outputs=("graph", "reference", "metrics", "run"))
def train(
    rows: pl.DataFrame, until_ms: int | None, holdout_days: float, sabotage: str, dataset: str, version: int
) -> tuple[bytes, pl.DataFrame, dict[str, float], str]:
    """Fits on the rows before `until_ms` (default: before the last `holdout_days`), judges on the rest, logs a run."""
    cut = until_ms if until_ms is not None else _newest_ms(rows) - int(holdout_days * DAY_MS)
    fitted_on, held_out = rows.filter(pl.col("event_ms") < cut), rows.filter(pl.col("event_ms") >= cut)
    parameters = {
        "rows": fitted_on.height,
        "trained_until": _date(cut),
        "features": ",".join(model.FEATURES),
        "data_digest": salus.connect().data.version(dataset, version).digest,
    }
    with salus.run(
        "flight-delay",
        name=f"train to {_date(cut)}",
        parameters=parameters,
        tags=_tags(sabotage),
        inputs=[f"dataset_version:{dataset}@{version}"],
    ) as run:
        began = time.process_time()
        pipeline = model.train(_labelled(_sabotaged(fitted_on, sabotage)))
        run.log({"training_cpu_s": time.process_time() - began})
        truth = held_out["label"].to_numpy()
        judged = _sabotaged(held_out, sabotage)
        for trees, answered in enumerate(
            pipeline[-1].staged_predict_proba(pipeline[0].transform(model.inputs(judged)))
        ):
            if trees % 5 == 4:
                run.log({"holdout_log_loss": float(log_loss(truth, answered[:, 1]))}, step=trees + 1)
        graph = model.to_onnx(pipeline, judged.head(2_000))
        answered = model.run_onnx(graph, judged)
        metrics = {
            "log_loss": float(log_loss(truth, answered)),
            "auc": float(roc_auc_score(truth, answered)),
            "brier": float(np.mean((answered - truth) ** 2)),
            "rows_trained": float(fitted_on.height),
            "rows_held_out": float(held_out.height),
        }
        run.log(metrics)
        run.log_artifact("model.onnx", graph)
    return graph, _reference(graph, fitted_on, held_out), metrics, run.id


@salus.step
def register(
    graph: bytes, reference: pl.DataFrame, metrics: dict[str, float], run: str, dataset: str, version: int
) -> str:
    """Registers the model with its reference; returns `model@version`."""
    client = salus.connect()
    made = client.models.log_onnx(
        MODEL,
        graph,
        reference.select(list(model.FEATURES)),
        signature=signature(),
        run_id=run,
        datasets=[f"{dataset}@{version}"],
        features=VIEWS,
        metrics=metrics,
        reference=reference,
        outputs=reference.select("probability"),
    )
    return f"{made.model}@{made.version}"


@salus.pipeline
def train_flight_delay(
    dataset: str = DATASET,
    endpoint: str = "",
    until_ms: int | None = None,
    excluded: list[list[int]] = [],  # noqa: B006 - read, never changed
    holdout_days: float = 12.0,
    sabotage: str = "",
) -> Any:
    """Collect, train, register.

    `until_ms`: trained on what happened before it, held out is what came in the `holdout_days` after it; without it the
    last days of the dataset are held out. `endpoint`: its logged, labelled predictions are learned from too.
    `excluded`: stretches of event time with broken inputs, `[start_ms, end_ms]` each. `sabotage`: for the demo's forced
    case only.
    """
    version = newest(dataset)
    rows = collect(recorded(dataset, version), endpoint, until_ms, holdout_days, excluded)
    graph, reference, metrics, run = train(rows, until_ms, holdout_days, sabotage, dataset, version)
    return register(graph, reference, metrics, run, dataset, version)


def signature() -> salus.Signature:
    """What the model takes and gives; numbers may be missing, codes are never."""
    columns = tuple(
        salus.Column(name=name, dtype="float" if kind == "number" else "string", nullable=kind == "number")
        for name, kind in model.FEATURES.items()
    )
    return salus.Signature(
        inputs=salus.Schema(columns=columns),
        outputs=salus.Schema(columns=(salus.Column(name="probability", dtype="float", nullable=False),)),
        task="binary",
    )


def _reference(graph: bytes, fitted_on: pl.DataFrame, held_out: pl.DataFrame) -> pl.DataFrame:
    """What the model's monitors compare with: all it was judged on, and of what it learned an even sample."""
    room = max(REFERENCE_ROWS - held_out.height, 0)
    learned = fitted_on.gather_every(max(1, -(-fitted_on.height // max(room, 1))))
    rows = pl.concat([learned.with_columns(held_out=False), held_out.with_columns(held_out=True)])
    return rows.with_columns(probability=pl.Series(model.run_onnx(graph, rows)))


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    types = {name: pl.Float64 if kind == "number" else pl.String for name, kind in model.FEATURES.items()}
    return frame.select(
        *(pl.col(name).cast(dtype) for name, dtype in types.items()),
        pl.col("event_ms").cast(pl.Int64),
        pl.col("label").cast(pl.Float64),
    )


def _labelled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns((pl.col("label") > 0.5).alias(model.LABEL))


def _sabotaged(frame: pl.DataFrame, sabotage: str) -> pl.DataFrame:
    """The forced bad challenger: trained and judged with delays in seconds, while requests bring minutes."""
    if sabotage == "seconds":
        return frame.with_columns(pl.col("dep_delay") * 60)
    return frame


def _tags(sabotage: str) -> dict[str, str]:
    return {"forced": sabotage} if sabotage else {}


def _newest_ms(rows: pl.DataFrame) -> int:
    newest: int = rows["event_ms"].max()  # type: ignore[assignment]
    return newest


def _date(event_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(event_ms / 1_000))
