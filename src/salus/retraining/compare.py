"""Candidate against champion, on labelled rows that neither was trained on. Runs in a worker's child process."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.kernel.structs import Record
from salus.monitoring.columns import KIND_OF, texts
from salus.monitoring.rows import CLIP, LOSS_NAME, loss_rows
from salus.registry.client import RegistryClient
from salus.registry.model import ModelVersion
from salus.retraining.model import Comparison, ComparisonTask, Gate, SegmentCheck
from salus.retraining.scoring import score
from salus.sdk.session import Session, path
from salus.stats.paired import paired_auc, paired_loss

_DAY_MS = 86_400_000
_FEWEST = 100
_CATEGORIES = 5

Numbers = NDArray[np.float64]


class Sides(Record):
    """Both models' answers to the same rows, shape (n,) each, with labels and days."""

    label: Any
    champion: Any
    candidate: Any
    day: Any


def compare_candidate(payload: Any, session: Session) -> dict[str, Any]:
    """The job: downloads both models and the rows, scores, compares. Returns a `Comparison` as plain JSON."""
    task = msgspec.convert(payload, ComparisonTask)
    client = RegistryClient(session)
    champion, candidate = client.version(task.model, task.champion), client.version(task.model, task.candidate)
    frame = rows_of(session, task)
    sides = Sides(
        label=frame["label"].to_numpy(),
        champion=_scores(client, champion, frame),
        candidate=_scores(client, candidate, frame),
        day=(frame["event_ms"] // _DAY_MS).to_numpy(),
    )
    found = compare(task, champion.signature.task, sides, frame, champion)
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def rows_of(session: Session, task: ComparisonTask) -> pl.DataFrame:
    """The endpoint's labelled live rows in [from_ms, to_ms), without those whose input was broken."""
    query = {"from_ms": task.from_ms, "to_ms": task.to_ms}
    raw = session.send("GET", path("endpoints", task.endpoint, "outcomes"), query=query)
    frame = pl.read_ipc(io.BytesIO(raw)).filter((pl.col("role") == "live") & pl.col("label").is_not_null())
    for start_ms, end_ms in task.excluded:
        frame = frame.filter(~pl.col("event_ms").is_between(start_ms, end_ms, closed="left"))
    return frame.unique("prediction_id", maintain_order=True)


def _scores(client: RegistryClient, version: ModelVersion, frame: pl.DataFrame) -> Numbers:
    if not frame.height:
        return np.empty(0)
    files = client.download(version.model, version.version)
    graph = next(found for name, found in sorted(files.items()) if name.endswith(".onnx"))
    return score(graph.read_bytes(), version.signature, frame)


def compare(task: ComparisonTask, kind: Any, sides: Sides, frame: pl.DataFrame, champion: ModelVersion) -> Comparison:
    """The verdict: `better`, `worse`, `no difference`, `worse segment` or `cannot tell`, in numbers and in words."""
    days = len(np.unique(sides.day))
    told = Comparison(
        champion=task.champion,
        candidate=task.candidate,
        metric=LOSS_NAME[kind],
        rows=len(sides.label),
        days=days,
        from_ms=task.from_ms,
        to_ms=task.to_ms,
        verdict="cannot tell",
    )
    gate = task.gate
    if len(sides.label) < gate.min_rows or days < gate.min_days:
        text = (
            f"cannot tell: {len(sides.label):,} labelled rows on {days} days, "
            f"the gate asks for {gate.min_rows:,} on {gate.min_days}"
        )
        return msgspec.structs.replace(told, text=text)
    old, new = loss_rows(kind, sides.label, sides.champion), loss_rows(kind, sides.label, sides.candidate)
    paired = paired_loss(old, new, gate.level, "better", margin=gate.margin, blocks=sides.day)
    segments = segment_checks(old, new, sides, frame, champion, gate)
    worse = next((check for check in segments if check.worse), None)
    verdict, said = str(paired.verdict), str(paired)
    if verdict == "better" and worse is not None:
        verdict, said = "worse segment", f"worse where {worse.rule} (gain {worse.gain})"
    elif paired.effect is not None and paired.effect.high < 0:
        verdict, said = "worse", f"worse: gain {paired.effect}"
    auc = None
    if kind == "binary":
        auc = paired_auc(sides.label, sides.champion, sides.candidate, blocks=sides.day).effect
    mean = (float(old.mean()), float(new.mean()))
    return msgspec.structs.replace(
        told,
        verdict=verdict,
        champion_loss=mean[0],
        candidate_loss=mean[1],
        gain=paired.effect,
        p_value=paired.p_value,
        auc_gain=auc,
        needed_n=paired.needed_n,
        segments=segments,
        text=f"{told.metric} {mean[1]:.4f} against {mean[0]:.4f} of the champion on {told.rows:,} rows of {days} days: "
        + said,
    )


def segment_checks(
    old: Numbers, new: Numbers, sides: Sides, frame: pl.DataFrame, champion: ModelVersion, gate: Gate
) -> tuple[SegmentCheck, ...]:
    """Parts of the rows (common categories, low, middle and high scores), each with its gain; one that is certain to be
    worse by more than the margin (Bonferroni over the parts) is marked."""
    parts = _parts(frame, sides, champion)
    large = {rule: mask for rule, mask in parts.items() if int(mask.sum()) >= _FEWEST}
    level = 1 - (1 - gate.level) / max(1, len(large))
    checks = []
    for rule, mask in large.items():
        found = paired_loss(old[mask], new[mask], level, "worse", blocks=sides.day[mask])
        if found.effect is not None:
            worse = found.effect.high < 0 and -found.effect.value > gate.segment_margin
            checks.append(SegmentCheck(rule=rule, gain=found.effect, worse=worse))
    return tuple(sorted(checks, key=lambda check: check.gain.value))


def _parts(frame: pl.DataFrame, sides: Sides, champion: ModelVersion) -> dict[str, NDArray[np.bool_]]:
    cuts = np.quantile(np.clip(sides.champion, CLIP, None), [1 / 3, 2 / 3])
    place = np.searchsorted(cuts, sides.champion)
    parts = {f"{name} scores": place == index for index, name in enumerate(("low", "middle", "high"))}
    for column in champion.signature.inputs.columns:
        name = f"in.{column.name}"
        if KIND_OF[column.dtype] != "categorical" or name not in frame.columns:
            continue
        values = texts(frame[name])
        common = values.drop_nulls().value_counts(sort=True).head(_CATEGORIES)
        for value in common[common.columns[0]].to_list():
            parts[f"{column.name} = {value}"] = (values == value).fill_null(value=False).to_numpy()
    return parts
