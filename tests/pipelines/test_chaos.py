"""Chaos: workers are killed with -9, put to sleep past their lease, and the control plane is killed too.

What must hold: every run ends with the right result; no step begins again after its result was recorded; each result
is recorded once; whoever takes an output gets the recorded one, never one of a stale worker.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from salus.backends.addresses import open_database
from salus.kernel import jobs, ledger
from salus.kernel.ledger import Entry
from salus.pipelines import values
from salus.pipelines.project import load_pipeline
from salus.sdk.blobs import BlobCache

if TYPE_CHECKING:
    from tests.pipelines.conftest import Plane

HERE = Path(__file__).parent
STEPS = ("first", "left", "right", "last")
LEASE_S = 2.0


class Storm:
    """Workers under attack for a while."""

    def __init__(self, plane: Plane, workers: int, seed: int) -> None:
        self.plane = plane
        self.random = random.Random(seed)
        self.workers = [self._worker() for _ in range(workers)]
        self.asleep: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.blows: Counter[str] = Counter()

    def _worker(self) -> subprocess.Popen[bytes]:
        return self.plane.start_worker(concurrency=2, lease_s=LEASE_S)

    def rage(self, seconds: float, pause_s: float) -> None:
        end_s = time.monotonic() + seconds
        server_at_s = time.monotonic() + seconds / 2
        while time.monotonic() < end_s:
            time.sleep(pause_s * self.random.uniform(0.5, 1.5))
            self._wake()
            self._strike()
            if time.monotonic() > server_at_s:
                server_at_s = float("inf")
                self._kill_server()
        self._wake(all_of_them=True)

    def _strike(self) -> None:
        index = self.random.randrange(len(self.workers))
        victim = self.workers[index]
        if self.blows["killed"] > self.blows["slept"]:
            victim.send_signal(signal.SIGSTOP)
            nap_s = LEASE_S * self.random.uniform(1.3, 2.3)
            self.asleep.append((time.monotonic() + nap_s, victim))
            self.blows["slept"] += 1
        else:
            victim.kill()
            victim.wait()
            self.blows["killed"] += 1
        self.workers[index] = self._worker()

    def _kill_server(self) -> None:
        self.plane.server.kill()
        self.plane.server.wait()
        self.plane.start_server()
        self.blows["server killed"] += 1

    def _wake(self, *, all_of_them: bool = False) -> None:
        for until_s, sleeper in list(self.asleep):
            if all_of_them or time.monotonic() > until_s:
                sleeper.send_signal(signal.SIGCONT)
                self.asleep.remove((until_s, sleeper))


def read_notes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(plane: Plane, notes: list[dict[str, Any]], runs: dict[str, int]) -> None:
    blobs = BlobCache(plane.session)
    recorded: dict[tuple[str, str], str] = {}
    for run_id, n in runs.items():
        details = plane.client.show(run_id)
        assert details.run.state == "succeeded", details.run.error
        for step in details.steps:
            ref = step.outputs["result"]
            output = values.decode(ref, blobs.get(ref.digest))
            recorded[run_id, step.step] = output["nonce"]
            if step.step == "last":
                assert output["value"] == n * (3 * n + n + 5)
            begun = sum(1 for x in notes if (x["run"], x["step"], x["what"]) == (run_id, step.step, "begin"))
            assert 1 <= begun <= step.attempts
    latest = {(x["run"], x["step"]): x["nonce"] for x in notes if x["what"] == "begin"}
    assert recorded == latest, "a result was recorded that is not the latest attempt's"
    ended = {(x["run"], x["step"], x["nonce"]) for x in notes if x["what"] == "end"}
    assert {(run, step, nonce) for (run, step), nonce in recorded.items()} <= ended
    for x in notes:
        if x["what"] == "begin":
            for upstream, nonce in x["taken"].items():
                assert recorded[x["run"], upstream] == nonce, "a step took an output that is not the recorded one"
    check_database(plane, notes, runs)


def check_database(plane: Plane, notes: list[dict[str, Any]], runs: dict[str, int]) -> None:
    database = open_database(plane.database_address)
    try:
        entries = database.read(
            lambda reader: ledger.read(reader, limit=100_000, kinds=["StepFinished", "PipelineRunFinished"])
        )
        database.read(ledger.verify)
        open_jobs = database.read(
            lambda reader: [job for job in jobs.recent(reader, "default", limit=100_000) if job.state != "succeeded"]
        )
    finally:
        database.close()
    assert open_jobs == []
    finished: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    ends: Counter[str] = Counter()
    for entry in entries:
        if entry.kind == "StepFinished":
            finished[entry.data["run"], entry.data["step"]].append(entry)
        else:
            ends[entry.data["run"]] += 1
    assert ends == Counter(list(runs))
    assert {key: len(found) for key, found in finished.items()} == {(run, step): 1 for run in runs for step in STEPS}
    for x in notes:
        if x["what"] == "begin":
            (entry,) = finished[x["run"], x["step"]]
            assert x["at_ms"] <= entry.at_ms, f"{x['step']} began again after its result was recorded"


def storm(plane: Plane, folder: Path, *, runs: int, seconds: float, workers: int, seed: int) -> Counter[str]:
    path = folder / "notes.jsonl"
    plane.client.deploy(load_pipeline(HERE, "chaos_flow.py:storm"), HERE)
    attack = Storm(plane, workers, seed)
    started: dict[str, int] = {}
    for n in range(runs):
        parameters = {"path": str(path), "n": n, "seconds": 1.0}
        started[plane.client.start("storm", parameters, idempotency_key=f"run {n}").id] = n
    while not path.exists():
        time.sleep(0.1)
    attack.rage(seconds, pause_s=1.5)
    for run_id in started:
        plane.client.wait(run_id, timeout_s=180)
    notes = read_notes(path)
    check(plane, notes, started)
    attack.blows["begun"] = sum(1 for x in notes if x["what"] == "begin")
    attack.blows["recorded"] = runs * len(STEPS)
    return attack.blows


def test_killed_workers_lose_nothing_and_repeat_nothing(plane: Plane, tmp_path: Path) -> None:
    blows = storm(plane, tmp_path, runs=14, seconds=15, workers=2, seed=7)
    assert min(blows["killed"], blows["slept"]) >= 2
    assert blows["server killed"] == 1
    assert blows["begun"] > blows["recorded"], "the storm was too mild: no step was ever interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_longer_storm(plane: Plane, tmp_path: Path, seed: int) -> None:
    blows = storm(plane, tmp_path, runs=60, seconds=60, workers=3, seed=seed)
    assert min(blows["killed"], blows["slept"]) >= 10
    assert blows["begun"] > blows["recorded"]
