"""Harm by realised labels: detectors that stay valid although they are looked at window after window. Pure.

Four questions are asked of each mature window. `relation`: is the loss above what the reference expects of these
scores? `under` and `over`: do more, or fewer, of the cases come true than the scores said? `level`: is the loss above
the reference's, for whatever reason? The budget of false alarms is shared among them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from salus.kernel.structs import Record
from salus.monitoring.model.alerts import Cause
from salus.monitoring.model.watches import YEAR_MS, WatchSettings
from salus.monitoring.rows import Curve, Numbers, Rows
from salus.stats.arrays import NotEnoughData
from salus.stats.sequential.window_change import FEWEST_WINDOWS, WindowChangeDetector

Question = Literal["relation", "under", "over", "level"]
QUESTIONS: tuple[Question, ...] = ("relation", "under", "over", "level")
CAUSE_OF: dict[Question, Cause] = {
    "relation": "changed_relationship",
    "under": "changed_relationship",
    "over": "changed_relationship",
    "level": "shifted_inputs",
}

PENDING_FROM = 0.1
RECOVERY_WINDOWS = 5
_LEVEL_TOLERANCES = 4.0
_FEWEST_ROWS = 20
_PSEUDO_WINDOWS = 10


class Detectors(Record):
    """One detector for each question, as they stand; `recent` holds the last windows' means, newest last."""

    questions: dict[str, WindowChangeDetector]
    recent: dict[str, tuple[float, ...]] = {}

    def evidence(self) -> dict[str, float]:
        """Each question's evidence as a share of what an alarm takes."""
        return {name: min(detector.evidence, 1e9) for name, detector in self.questions.items()}

    def alarms(self) -> list[str]:
        """The questions answered with an alarm."""
        return [name for name, detector in self.questions.items() if detector.alarm]

    def windows_since_change(self) -> int:
        """How many windows ago the likely change began, by the detector with most evidence; 0 while calm."""
        if not self.questions:
            return 0
        leading = max(self.questions.values(), key=lambda detector: detector.evidence)
        started = leading.detection.started_at
        return 0 if started is None else leading.detection.steps - started

    def update(self, rows: Rows) -> Detectors:
        """The detectors after one more window; one with few rows is no step."""
        if len(rows) < _FEWEST_ROWS:
            return self
        signals = signals_of(rows)
        recent = dict(self.recent)
        for name in self.questions:
            recent[name] = (*recent.get(name, ()), float(signals[name].mean()))[-2 * RECOVERY_WINDOWS :]
        asked = {name: detector.update_window(signals[name]) for name, detector in self.questions.items()}
        return Detectors(questions=asked, recent=recent)

    def recovered(self, cause: Cause) -> bool:
        """Whether the last windows, taken together, lie within the tolerance again for every question of that cause."""
        for name, detector in self.questions.items():
            if CAUSE_OF[name] != cause:  # type: ignore[index]
                continue
            last = self.recent.get(name, ())[-RECOVERY_WINDOWS:]
            if len(last) < RECOVERY_WINDOWS or float(np.mean(last)) > detector.mean + detector.tolerance:
                return False
        return True

    def restarted(self, fresh: Detectors, cause: Cause) -> Detectors:
        """The detectors with those of `cause` as new."""
        chosen = {
            name: fresh.questions[name] if CAUSE_OF[name] == cause else detector  # type: ignore[index]
            for name, detector in self.questions.items()
        }
        return Detectors(questions=chosen, recent=self.recent)


def signals_of(rows: Rows) -> dict[str, Numbers]:
    """The rows' values for each question, shape (n,) each; larger is worse."""
    return {"relation": rows.residual, "under": rows.bias, "over": -rows.bias, "level": rows.loss}


def learn(rows: Rows, windows: NDArray[np.intp], curve: Curve, *, window_ms: int, settings: WatchSettings) -> Detectors:
    """Detectors from reference rows and the window that each lies in.

    The tolerances are `settings.tolerance_ratio` of the reference's loss (`relation`), of the standard deviation of its
    labels (`under`, `over`), and four times that of its loss (`level`: seasons move it). A reference of fewer than
    5 windows is cut into ten stretches instead, which knows less of how days differ. Empty where rows are too few.
    """
    per_alarm = max(2.0, YEAR_MS / window_ms / settings.false_alarms_per_year * len(QUESTIONS))
    if len(np.unique(windows)) < FEWEST_WINDOWS:
        windows = np.arange(len(rows)) * _PSEUDO_WINDOWS // max(1, len(rows))
    loss, bias = settings.tolerance_ratio * curve.mean_loss, settings.tolerance_ratio * curve.label_sd
    tolerances = {"relation": loss, "under": bias, "over": bias, "level": _LEVEL_TOLERANCES * loss}
    try:
        questions = {
            name: WindowChangeDetector.learned(values, windows, tolerance=tolerances[name], windows_per_alarm=per_alarm)
            for name, values in signals_of(rows).items()
        }
    except (NotEnoughData, ValueError):
        return Detectors(questions={})
    return Detectors(questions=questions)
