"""The demo's comparison says what the answers say, and nothing more."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from salus.demo.report import compare, show_chart, show_table, verdict


def outcomes(improvement: float, rows: int = 4_000) -> pl.DataFrame:
    """Answers of 1.0.0 (noisy) and of the live version (less noisy by `improvement`) to the same flights."""
    random = np.random.default_rng(7)
    truth = random.uniform(0.05, 0.95, rows)
    label = (random.uniform(size=rows) < truth).astype(float)
    noise = random.normal(size=rows)
    base = {"prediction_id": [f"p-{i:x}" for i in range(rows)], "event_ms": np.arange(rows) * 86_400_000 // 200}
    answers = []
    for role, version, spread in (("shadow", "1.0.0", 1.0), ("live", "1.1.0", 1.0 - improvement)):
        answered = 1 / (1 + np.exp(-(np.log(truth / (1 - truth)) + spread * noise)))
        answers.append(
            pl.DataFrame({**base, "label": label, "role": role, "version": version, "out.probability": answered})
        )
    return pl.concat(answers)


def test_a_better_model_is_said_to_be_better() -> None:
    found = compare(outcomes(0.8), "1.0.0", "Mar")
    assert found.loss_gain.low > 0
    assert found.frozen_loss.value - found.healed_loss.value == pytest.approx(found.loss_gain.value)
    assert found.healed_versions == ["1.1.0"]
    assert "better than left alone by more than noise" in verdict([found, found])


def test_a_worse_model_is_said_to_be_worse() -> None:
    found = compare(outcomes(-0.8), "1.0.0", "Mar")
    assert found.loss_gain.high < 0
    assert "WORSE" in verdict([found, found])


def test_the_same_model_is_said_to_be_the_same() -> None:
    found = compare(outcomes(0.0), "1.0.0", "Mar")
    assert found.loss_gain.value == pytest.approx(0)
    assert "within noise" in verdict([found, found])


def test_rows_without_label_or_answer_do_not_count() -> None:
    frame = outcomes(0.5).with_columns(
        label=pl.when(pl.col("event_ms") < 86_400_000).then(None).otherwise(pl.col("label"))
    )
    assert compare(frame, "1.0.0", "Mar").flights == frame.filter(pl.col("label").is_not_null()).height // 2


def test_table_and_chart_show_every_month() -> None:
    months = [compare(outcomes(0.8), "1.0.0", name) for name in ("Mar", "Apr", "all")]
    console = Console(record=True, width=140)
    show_table(console, months)
    show_chart(console, months)
    text = console.export_text()
    assert text.count("●") == 3
    assert all(name in text for name in ("Mar", "Apr", "all"))
