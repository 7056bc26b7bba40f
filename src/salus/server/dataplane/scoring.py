"""Scoring rows on the revisions of an endpoint: which rows go where, and what comes of a model that fails."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from salus.server.dataplane.onnx_model import Scorer
from salus.server.dataplane.plans import EndpointPlan

Outcome = tuple[dict[str, Any] | None, str | None]
"""What a revision said to a row: its outputs, or the text of its error."""


AnswerRow = tuple[str, str, dict[str, Any] | None, str | None, int]
"""`salus.serving.wire.Answer` as a plain tuple: revision, role, output, error, latency in microseconds."""


class Scored:
    """The outcomes of a list of rows: `chosen[i]` answers row i, `by_revision[name][i]` is `(outcome, latency_us)`.

    `by_revision` holds None where a revision was not asked.
    """

    __slots__ = ("by_revision", "chosen")

    def __init__(self, chosen: list[str], by_revision: dict[str, list[tuple[Outcome, int] | None]]) -> None:
        self.chosen = chosen
        self.by_revision = by_revision

    def answers(self, index: int) -> list[AnswerRow]:
        """The answers to one row, the live one first."""
        live = self.chosen[index]
        found: list[AnswerRow] = []
        for revision, outcomes in self.by_revision.items():
            entry = outcomes[index]
            if entry is not None:
                (output, error), latency_us = entry
                if revision == live:
                    found.insert(0, (revision, "live", output, error, latency_us))
                else:
                    found.append((revision, "shadow", output, error, latency_us))
        return found


def score(plan: EndpointPlan, rows: Sequence[Any], split_keys: Sequence[str]) -> Scored:
    """Asks every revision that `plan` wants asked. Never raises for what a model does.

    The latency of an answer is the time that its revision took for the rows it was asked together with.
    """
    if plan.only is not None and not plan.hidden:
        chosen = [plan.only] * len(rows)
        return Scored(chosen, {plan.only: _timed(plan.served[plan.only].scorer, rows)})
    chosen = [plan.choose(key) for key in split_keys]
    by_revision: dict[str, list[tuple[Outcome, int] | None]] = {}
    for revision, served in plan.served.items():
        if revision in plan.hidden or revision in plan.mirrored:
            by_revision[revision] = _timed(served.scorer, rows)
            continue
        places = [index for index, name in enumerate(chosen) if name == revision]
        if places:
            outcomes: list[tuple[Outcome, int] | None] = [None] * len(rows)
            for place, entry in zip(places, _timed(served.scorer, [rows[i] for i in places]), strict=True):
                outcomes[place] = entry
            by_revision[revision] = outcomes
    return Scored(chosen, by_revision)


def _timed(scorer: Scorer, rows: Sequence[Any]) -> list[tuple[Outcome, int] | None]:
    started_ns = time.perf_counter_ns()
    outcomes = _outcomes(scorer, rows)
    latency_us = (time.perf_counter_ns() - started_ns) // 1000
    return [(outcome, latency_us) for outcome in outcomes]


def _outcomes(scorer: Scorer, rows: Sequence[Any]) -> list[Outcome]:
    """The outcomes of `rows`. A batch that fails is halved until the rows that make it fail stand alone."""
    try:
        return [_checked(outputs) for outputs in scorer.score(rows)]
    except Exception as error:  # noqa: BLE001 - whatever a model raises is its answer
        if len(rows) == 1:
            return [(None, f"{type(error).__name__}: {str(error)[:500]}")]
    middle = len(rows) // 2
    return _outcomes(scorer, rows[:middle]) + _outcomes(scorer, rows[middle:])


def _checked(outputs: dict[str, Any]) -> Outcome:
    for name, value in outputs.items():
        if type(value) is float and not math.isfinite(value):
            return None, f"the model gave {value} as {name}"
    return outputs, None
