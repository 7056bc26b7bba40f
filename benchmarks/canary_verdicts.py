"""Canary verdicts where the truth is known: how often a healthy challenger is rolled back, how fast a sick one is.

The same streams are judged by three rules, each looked at after every 50 rows: Salus's verdict; a z-test of the same
margins at the same error probability, repeated at every look from 200 rows on; a fixed threshold on the observed
difference (1.5 times the margin, from 200 rows on). The hardest lawful challenger is exactly at a margin: there the
setting must hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from salus.serving import verdict as rules
from salus.serving.model.rollouts import MARGIN_OF_METRIC, Strategy

Rows = NDArray[np.float64]

REPETITIONS = 300
ROWS = 10_000
ROWS_PER_LOOK = 50
SETTING = 0.05
SEED = 2013
MARGINS = (MARGIN_OF_METRIC["brier"], Strategy().error_margin_ratio)
FIRST_N = 200
THRESHOLD_RATIO = 1.5


class Scenario(msgspec.Struct, frozen=True):
    """How the challenger differs: its probabilities are off by `shift`, `error_ratio` of its answers fail, `loss` is
    added to its mean loss (and noise to each row's)."""

    name: str
    shift: float = 0.0
    error_ratio: float = 0.0
    loss: float = 0.0


SCENARIOS = (
    Scenario("healthy: as good as the champion"),
    Scenario("healthy: loss exactly at the margin", loss=MARGINS[0]),
    Scenario("healthy: errors exactly at the margin", error_ratio=MARGINS[1]),
    Scenario("worse by about 0.04 Brier", shift=0.20),
    Scenario("worse by about 0.09 Brier", shift=0.30),
    Scenario("2 % of answers fail", error_ratio=0.02),
    Scenario("5 % of answers fail", error_ratio=0.05),
    Scenario("all answers fail", error_ratio=1.0),
)


class Batch(msgspec.Struct, frozen=True):
    """What one look adds: losses, failures and latencies of champion and challenger on the same rows."""

    loss: tuple[Rows, Rows]
    failed: tuple[Rows, Rows]
    latency_ms: tuple[Rows, Rows]


Rule = Callable[[Iterator[Batch]], int | None]
"""Gives the row at which the challenger is rolled back, or None."""


def main() -> None:
    """Prints, for each scenario and rule, the share of rollbacks and the median row at which they came."""
    columns = ("challenger", "Salus", "z-test at every look", "fixed threshold")
    table = Table(*columns, title=f"rolled back within {ROWS:,} rows (median row); setting {SETTING:.0%}")
    for scenario in SCENARIOS:
        cells = [cell(scenario, rule) for rule in (by_verdict, by_z_test, by_threshold)]
        table.add_row(scenario.name, *cells)
    Console().print(table)


def cell(scenario: Scenario, rule: Rule) -> str:
    """The share of rollbacks, and the median row of those."""
    rng = np.random.default_rng(SEED)
    ends = [rule(stream(scenario, np.random.default_rng(rng.integers(2**63)))) for _ in range(REPETITIONS)]
    found = [end for end in ends if end is not None]
    median = f" ({np.median(found):,.0f})" if found else ""
    return f"{len(found) / REPETITIONS:.1%}{median}"


def stream(scenario: Scenario, rng: np.random.Generator) -> Iterator[Batch]:
    """Rows of a world in which the champion knows the true probability up to noise."""
    n = ROWS_PER_LOOK
    for _ in range(ROWS // n):
        truth = rng.beta(1.0, 3.0, n)
        happened = (rng.random(n) < truth).astype(np.float64)
        guesses = [np.clip(truth + shift + rng.normal(0.0, 0.05, n), 0, 1) for shift in (0.0, scenario.shift)]
        old, new = (rules.losses("brier", happened, guess) for guess in guesses)
        if scenario.loss:
            new = old + scenario.loss + rng.normal(0.0, 0.1, n)
        yield Batch(
            loss=(old, new),
            failed=(np.zeros(n), (rng.random(n) < scenario.error_ratio).astype(np.float64)),
            latency_ms=(rng.lognormal(1.0, 0.4, n), rng.lognormal(1.0, 0.4, n)),
        )


def by_verdict(batches: Iterator[Batch]) -> int | None:
    """Salus; never promoted, so that a healthy challenger is looked at to the end."""
    strategy = Strategy(metric="brier", max_false_rollback_ratio=SETTING, min_rows=10 * ROWS)
    evidence = rules.begin(strategy)
    for look, batch in enumerate(batches, start=1):
        evidence = rules.with_answers(evidence, failed=batch.failed, latency_ms=batch.latency_ms, event_ms=(look, look))
        evidence = rules.with_losses(evidence, *batch.loss)
        if rules.judge(evidence, strategy).decision == "roll_back":
            return look * ROWS_PER_LOOK
    return None


def by_z_test(batches: Iterator[Batch]) -> int | None:
    """One-sided z-tests of both margins, half the setting each, as if each look were the only one."""
    bar = float(norm.ppf(1 - SETTING / 2))
    sums = np.zeros((2, 2))
    for look, batch in enumerate(batches, start=1):
        n = look * ROWS_PER_LOOK
        for place, (old, new) in enumerate((batch.loss, batch.failed)):
            difference = new - old
            sums[place] += difference.sum(), np.square(difference).sum()
            mean = sums[place, 0] / n
            error = math.sqrt(max(sums[place, 1] / n - mean**2, 0.0) / n)
            if n >= FIRST_N and mean - MARGINS[place] > bar * error:
                return n
    return None


def by_threshold(batches: Iterator[Batch]) -> int | None:
    """Rolled back when a mean difference so far is above 1.5 times its margin."""
    sums = np.zeros(2)
    for look, batch in enumerate(batches, start=1):
        n = look * ROWS_PER_LOOK
        sums += [(new - old).sum() for old, new in (batch.loss, batch.failed)]
        if n >= FIRST_N and (sums / n > THRESHOLD_RATIO * np.array(MARGINS)).any():
            return n
    return None


if __name__ == "__main__":
    main()
