"""The demo's wall time: a stretch of the replay with everything on, against the same requests to nothing but the data
plane's own model scored in this process.

The floor is ONNX Runtime alone on the same rows, one by one: no HTTP, no features, no log, no monitors.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime

import onnxruntime
from rich.console import Console
from rich.table import Table

from salus.demo.flights import data, features, model

UNTIL = datetime(2013, 3, 31, tzinfo=UTC)
MARCH = datetime(2013, 3, 1, 5, tzinfo=UTC)


def main() -> None:
    """Prints the demo's seconds for March with preparation, and the floor's."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "SALUS_HOME": home, "SALUS_PORT": "7470", "SALUS_SERVE_PORT": "7471"}
        began = time.perf_counter()
        command = [sys.executable, "-m", "salus", "demo", "--exit", "--until", f"{UNTIL:%Y-%m-%d}"]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        demo_s = time.perf_counter() - began
    rows, floor_s = floor()
    table = Table("work", "seconds", "per flight", title="the demo's March, start to end")
    table.add_row("salus demo: train, deploy, replay, watch", f"{demo_s:.1f}", f"{1e6 * demo_s / rows:,.0f} µs")
    table.add_row("floor: ONNX Runtime alone, row by row", f"{floor_s:.1f}", f"{1e6 * floor_s / rows:,.0f} µs")
    table.add_row("ratio", f"{demo_s / floor_s:.1f}", "")
    Console().print(table)


def floor() -> tuple[int, float]:
    """Rows of March, and the seconds that the model alone takes to answer them one by one."""
    frame = features.with_plane(features.with_weather(data.departures(), data.weather()), data.planes())
    fitted = model.train(features.labelled(frame, at=MARCH))
    march = frame.filter((frame["event_time"] >= MARCH) & (frame["event_time"] <= UNTIL.replace(hour=23, minute=59)))
    session = onnxruntime.InferenceSession(model.to_onnx(fitted, march.head(500)))
    rows = [model.tensors(march.slice(index, 1)) for index in range(march.height)]
    began = time.perf_counter()
    for row in rows:
        session.run(["probability"], row)
    return march.height, time.perf_counter() - began


if __name__ == "__main__":
    main()
