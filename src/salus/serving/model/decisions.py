"""News of rollouts: each carries the evidence that it rests on."""

from __future__ import annotations

from typing import Any

from salus.kernel.sql import Event
from salus.serving.model.rollouts import StrategyKind, Verdict


class RolloutStarted(Event):
    """A challenger began to take requests."""

    endpoint: str
    rollout: str
    model: str
    version: str
    champion: str | None
    challenger: str
    kind: StrategyKind
    share: float
    reason: str
    override: bool
    answers: list[dict[str, Any]]


class RolloutStepped(Event):
    """The evidence gave the challenger a larger share."""

    endpoint: str
    rollout: str
    step: int
    share: float
    verdict: Verdict


class RolloutHeld(Event):
    """Time is up and the evidence cannot tell: a person must promote; worse evidence still rolls back."""

    endpoint: str
    rollout: str
    verdict: Verdict


class RolloutPromoted(Event):
    """The challenger answers everything; the champion is kept as `previous`."""

    endpoint: str
    rollout: str
    model: str
    version: str
    revision: str
    previous: str | None
    reason: str
    verdict: Verdict | None


class RolledBack(Event):
    """The routes went back: `revision` answers everything again."""

    endpoint: str
    rollout: str
    model: str
    version: str
    revision: str | None
    rejected: str
    reason: str
    verdict: Verdict | None
