"""The demo's last act: month by month, the model left alone against the model under Salus, on the same flights."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from salus.client import Client
from salus.demo.replay import ENDPOINT
from salus.kernel.structs import Record
from salus.stats.intervals import Estimate, log_loss, log_loss_rows
from salus.stats.paired import paired_auc, paired_loss
from salus.stats.ranking import auc

COLUMNS = ("role", "version", "out.probability", "error")
_CHART_WIDTH = 50
_SMALLEST_SCALE = 0.005


class Comparison(Record):
    """Frozen against healed on the same labelled flights; gains are positive where healed is better."""

    period: str
    flights: int
    frozen_loss: Estimate
    healed_loss: Estimate
    loss_gain: Estimate
    frozen_auc: Estimate
    healed_auc: Estimate
    auc_gain: Estimate
    healed_versions: list[str]


def compare(outcomes: pl.DataFrame, frozen: str, period: str) -> Comparison:
    """Compares the answers that went out with those of the version `frozen` for the same flights.

    `outcomes` has a row for each answer: `prediction_id`, `event_ms`, `role`, `version`, `out.probability`, `label`.
    Intervals are 95 %, computed over days: flights of one day share its weather.
    """
    answered = outcomes.filter(pl.col("label").is_not_null() & pl.col("out.probability").is_not_null())
    live = answered.filter(pl.col("role") == "live")
    alone = answered.filter(pl.col("version") == frozen).unique("prediction_id")
    both = live.join(alone.select("prediction_id", frozen="out.probability"), on="prediction_id", how="inner")
    truth = both["label"].to_numpy()
    days = (both["event_ms"] // 86_400_000).to_numpy()
    was, now = both["frozen"].to_numpy(), both["out.probability"].to_numpy()
    loss_gain = paired_loss(log_loss_rows(truth, was), log_loss_rows(truth, now), blocks=days).effect
    auc_gain = paired_auc(truth, was, now, blocks=days).effect
    return Comparison(
        period=period,
        flights=both.height,
        frozen_loss=log_loss(truth, was, blocks=days),
        healed_loss=log_loss(truth, now, blocks=days),
        loss_gain=loss_gain or _nothing(both.height),
        frozen_auc=auc(truth, was, blocks=days),
        healed_auc=auc(truth, now, blocks=days),
        auc_gain=auc_gain or _nothing(both.height),
        healed_versions=sorted(both["version"].unique().to_list()),
    )


def _nothing(rows: int) -> Estimate:
    return Estimate(value=0.0, low=0.0, high=0.0, n=rows, level=0.95)


def fetch_and_compare(client: Client, frozen: str, last: datetime) -> list[Comparison]:
    """The months from March to that of `last`, then all of them together."""
    found, parts = [], []
    for month in range(3, last.month + 1):
        start, end = datetime(2013, month, 1, tzinfo=UTC), _month_after(month)
        outcomes = client.endpoints.outcomes(ENDPOINT, from_ms=_ms(start), to_ms=_ms(end), columns=COLUMNS)
        if outcomes.filter(pl.col("label").is_not_null()).height:
            found.append(compare(outcomes, frozen, start.strftime("%b")))
            parts.append(outcomes)
    found.append(compare(pl.concat(parts), frozen, "all"))
    return found


def _month_after(month: int) -> datetime:
    return datetime(2014, 1, 1, 5, tzinfo=UTC) if month == 12 else datetime(2013, month + 1, 1, tzinfo=UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def show_table(console: Console, months: list[Comparison]) -> None:
    """Log loss and AUC of both, month by month, with the gain and its interval."""
    table = Table(title="The model left alone against the model under Salus, on the same flights", title_justify="left")
    for name in ("2013", "flights", "log loss", "under Salus", "gain x 1000", "AUC", "under Salus", "gain x 1000"):
        table.add_column(name, justify="left" if name == "2013" else "right", no_wrap=True)
    for month in months:
        table.add_row(
            month.period,
            f"{month.flights:,}",
            f"{month.frozen_loss.value:.4f}",
            f"{month.healed_loss.value:.4f}",
            _gain(month.loss_gain),
            f"{month.frozen_auc.value:.4f}",
            f"{month.healed_auc.value:.4f}",
            _gain(month.auc_gain),
            end_section=month is months[-2] if len(months) > 1 else False,
            style="bold" if month.period == "all" else "",
        )
    console.print(table)


def show_chart(console: Console, months: list[Comparison]) -> None:
    """The gain in log loss as points with their intervals around zero; right of the line is better."""
    widest = max(max(abs(m.loss_gain.low), abs(m.loss_gain.high)) for m in months)
    scale = max(widest, _SMALLEST_SCALE)
    console.print("\nGain in log loss x 1000 (right of the line: better under Salus; the bar is the 95 % interval)")
    for month in months:
        console.print(Text(f"{month.period:>4} ") + _bar(month.loss_gain, scale) + Text(f" {_gain(month.loss_gain)}"))
    low, high = f"{-1_000 * scale:+.0f}", f"{1_000 * scale:+.0f}"
    console.print(f"     {low.ljust(_CHART_WIDTH // 2)}0{high.rjust(_CHART_WIDTH // 2)}")


def _bar(gain: Estimate, scale: float) -> Text:
    def at(value: float) -> int:
        return int(np.clip(round((value / scale + 1) / 2 * _CHART_WIDTH), 0, _CHART_WIDTH))

    cells = [" "] * (_CHART_WIDTH + 1)
    for cell in range(at(gain.low), at(gain.high) + 1):
        cells[cell] = "─"
    cells[_CHART_WIDTH // 2] = "│"
    cells[at(gain.value)] = "●"
    style = "green" if gain.low > 0 else "red" if gain.high < 0 else "dim"
    return Text("".join(cells), style=style)


def _gain(gain: Estimate) -> str:
    return f"{1_000 * gain.value:+.1f} [{1_000 * gain.low:+.1f}, {1_000 * gain.high:+.1f}]"


def verdict(months: list[Comparison]) -> str:
    """One honest sentence about the year."""
    year = months[-1].loss_gain
    better = sum(1 for month in months[:-1] if month.loss_gain.low > 0)
    worse = sum(1 for month in months[:-1] if month.loss_gain.high < 0)
    by_month = f"better beyond noise in {better} of {len(months) - 1} months, worse beyond noise in {worse}"
    gain = f"{_gain(year)} x 0.001 log loss"
    if year.low > 0:
        return f"Under Salus the model was better than left alone by more than noise ({gain}): {by_month}."
    if year.high < 0:
        return f"Under Salus the model was WORSE than left alone by more than noise ({gain}): {by_month}."
    return f"Over the year the difference is within noise ({gain}): {by_month}."
