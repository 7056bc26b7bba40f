"""Verdicts: right in the clear cases, and wrong no more often than the setting says, however often one looks."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from salus.serving import verdict as rules
from salus.serving.model.rollouts import Decision, Metric, Strategy, Verdict, next_share
from salus.serving.verdict import Evidence

Rows = NDArray[np.float64]

SIMULATED_ROWS = 6_000
ROWS_PER_LOOK = 50


def simulated(
    rng: np.random.Generator,
    strategy: Strategy,
    *,
    shift: float = 0.0,
    error_ratio: float = 0.0,
    slowdown: float = 1.0,
    rows: int = SIMULATED_ROWS,
) -> tuple[Decision, int, Verdict]:
    """A canary looked at after every 50 rows until it is decided; the champion knows the true probability up to noise.

    `shift` moves the challenger's probabilities, `error_ratio` of its answers fail, `slowdown` stretches its latency.
    """
    evidence = rules.begin(strategy)
    verdict = rules.judge(evidence, strategy)
    for start in range(0, rows, ROWS_PER_LOOK):
        truth = rng.beta(1.0, 3.0, ROWS_PER_LOOK)
        happened = (rng.random(ROWS_PER_LOOK) < truth).astype(np.float64)
        old = np.clip(truth + rng.normal(0.0, 0.05, ROWS_PER_LOOK), 0.0, 1.0)
        new = np.clip(truth + shift + rng.normal(0.0, 0.05, ROWS_PER_LOOK), 0.0, 1.0)
        evidence = rules.with_answers(
            evidence,
            failed=(np.zeros(ROWS_PER_LOOK), rng.random(ROWS_PER_LOOK) < error_ratio),
            latency_ms=(
                rng.lognormal(1.0, 0.4, ROWS_PER_LOOK),
                slowdown * rng.lognormal(1.0, 0.4, ROWS_PER_LOOK),
            ),
            event_ms=(start, start + ROWS_PER_LOOK),
        )
        metric = strategy.metric or "brier"
        evidence = rules.with_losses(evidence, rules.losses(metric, happened, old), rules.losses(metric, happened, new))
        verdict = rules.judge(evidence, strategy)
        if verdict.decision != "hold":
            return verdict.decision, start + ROWS_PER_LOOK, verdict
    return "hold", rows, verdict


def decided_at_the_margin(rng: np.random.Generator, strategy: Strategy) -> tuple[bool, bool]:
    """Whether a challenger that is exactly at the margins of loss and errors is rolled back: by Salus, and by a z-test
    of the loss that is repeated at every look."""
    margins = rules.MARGIN_OF_METRIC["brier"], strategy.error_margin_ratio
    evidence, seen = rules.begin(strategy), np.zeros(0)
    ours = naive = False
    for start in range(0, SIMULATED_ROWS, ROWS_PER_LOOK):
        old = rng.random(ROWS_PER_LOOK)
        new = old + margins[0] + rng.normal(0.0, 0.1, ROWS_PER_LOOK)
        evidence = rules.with_losses(evidence, old, new)
        evidence = rules.with_answers(
            evidence,
            failed=(np.zeros(ROWS_PER_LOOK), rng.random(ROWS_PER_LOOK) < margins[1]),
            latency_ms=(old, old),
            event_ms=(start, start),
        )
        seen = np.concatenate([seen, new - old])
        error = seen.std() / np.sqrt(len(seen))
        naive = naive or (len(seen) >= 200 and (seen.mean() - margins[0]) / error > 1.645)
        ours = ours or rules.judge(evidence, strategy).decision == "roll_back"
    return ours, bool(naive)


def test_at_the_margin_the_setting_holds_where_a_repeated_test_fails() -> None:
    """The hardest lawful challenger, looked at 120 times, with a setting of 5 % for both rules."""
    strategy = Strategy(metric="brier", max_false_rollback_ratio=0.05, min_rows=10**9)
    rng = np.random.default_rng(42)
    outcomes = [decided_at_the_margin(rng, strategy) for _ in range(80)]
    assert sum(ours for ours, _ in outcomes) <= 4
    assert sum(naive for _, naive in outcomes) >= 12


@pytest.mark.parametrize("metric", ["brier", "log_loss"])
def test_healthy_canaries_are_rolled_back_no_more_often_than_the_setting(metric: Metric) -> None:
    """Never promoted (min_rows is out of reach), so each is looked at 120 times with a setting of 10 %."""
    strategy = Strategy(metric=metric, max_false_rollback_ratio=0.10, min_rows=10**9)
    rng = np.random.default_rng(20130301)
    outcomes = [simulated(rng, strategy)[0] for _ in range(30)]
    assert outcomes.count("roll_back") <= 3


def test_canaries_that_are_worse_are_caught() -> None:
    strategy = Strategy(metric="brier")
    rng = np.random.default_rng(7)
    for _ in range(10):
        decision, rows, verdict = simulated(rng, strategy, shift=0.25)
        assert decision == "roll_back"
        assert rows <= 2_500
        assert verdict.criteria[0].state == "worse"


def test_a_challenger_that_is_just_outside_the_margin_is_hardly_ever_promoted() -> None:
    """The mean Brier difference is about 0.01, twice the margin."""
    strategy = Strategy(metric="brier", max_false_rollback_ratio=0.01, max_false_promotion_ratio=0.05)
    rng = np.random.default_rng(11)
    outcomes = [simulated(rng, strategy, shift=0.115)[0] for _ in range(40)]
    assert outcomes.count("promote") <= 4


def test_equal_models_are_promoted() -> None:
    rng = np.random.default_rng(3)
    outcomes = [simulated(rng, Strategy(metric="brier"))[0] for _ in range(10)]
    assert outcomes.count("promote") >= 9


def test_failing_answers_are_caught_without_labels() -> None:
    strategy = Strategy(metric=None)
    rng = np.random.default_rng(5)
    assert simulated(rng, strategy, error_ratio=1.0)[1] <= 100
    decision, rows, verdict = simulated(rng, strategy, error_ratio=0.05)
    assert (decision, verdict.criteria[0].name) == ("roll_back", "errors")
    assert rows <= 2_000


def test_slow_answers_are_caught() -> None:
    decision, rows, verdict = simulated(np.random.default_rng(5), Strategy(metric=None), slowdown=5.0)
    assert decision == "roll_back"
    assert verdict.criteria[-1].state == "worse"
    assert rows <= 1_500


def test_separate_arms_catch_what_fails_and_what_is_worse() -> None:
    strategy = Strategy(metric="brier", mirror=False)
    rng = np.random.default_rng(9)
    assert simulated(rng, strategy, error_ratio=0.2)[0] == "roll_back"
    assert simulated(rng, strategy, shift=0.5)[0] == "roll_back"


def test_nothing_seen_says_cannot_tell() -> None:
    strategy = Strategy(metric="brier")
    verdict = rules.judge(rules.begin(strategy), strategy)
    assert verdict.decision == "hold"
    assert verdict.reason.startswith("cannot tell yet: 0 labelled rows")
    assert verdict.needed_n == 500
    assert {criterion.state for criterion in verdict.criteria} == {"cannot tell"}


def test_a_task_without_a_loss_is_judged_by_errors_and_latency() -> None:
    verdict = rules.judge(rules.begin(Strategy()), Strategy())
    assert [criterion.name for criterion in verdict.criteria] == ["errors", "latency"]


def test_each_step_asks_for_rows_of_its_own() -> None:
    strategy = Strategy(metric="brier", min_rows=1_000)
    rng = np.random.default_rng(3)
    evidence = rules.begin(strategy)
    losses = rng.random(4_000)
    evidence = rules.with_answers(
        evidence, failed=(np.zeros(4_000), np.zeros(4_000)), latency_ms=(losses, losses), event_ms=(0, 1)
    )
    evidence = rules.with_losses(evidence, losses, losses)
    assert rules.judge(evidence, strategy).decision == "promote"
    stepped = rules.judge(rules.next_step(evidence), strategy)
    assert stepped.decision == "hold"
    assert "0 labelled rows in this step" in stepped.reason


def test_batches_do_not_matter() -> None:
    strategy = Strategy(metric="brier")
    rng = np.random.default_rng(1)
    old, new = rng.random(300), rng.random(300)
    whole = rules.with_losses(rules.begin(strategy), old, new)
    pieces = rules.begin(strategy)
    for start in range(0, 300, 7):
        pieces = rules.with_losses(pieces, old[start : start + 7], new[start : start + 7])
    assert rules.judge(pieces, strategy).criteria[0].low == pytest.approx(rules.judge(whole, strategy).criteria[0].low)


def test_evidence_survives_storage() -> None:
    strategy = Strategy(metric="log_loss")
    evidence = rules.with_losses(rules.begin(strategy), [0.1, 0.2], [0.3, 0.1])
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence


def test_losses_are_bounded() -> None:
    assert rules.losses("log_loss", [1.0], [0.0]).max() <= rules.LARGEST_LOSS["log_loss"] + 1e-9
    assert rules.losses("brier", [1.0], [-3.0]).max() == 1.0
    assert rules.losses("squared_error", [1e9], [0.0], 1.0).max() == 1.0


def test_shares_by_step() -> None:
    assert next_share(Strategy(kind="blue_green"), 0) == 1.0
    assert [next_share(Strategy(steps=(0.1, 0.5)), step) for step in range(3)] == [0.1, 0.5, 1.0]
