"""A real control plane, a real worker, real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salus.kernel.errors import InvalidInput, SalusError
from salus.pipelines import values
from salus.pipelines.model import PipelineRunDetails
from salus.pipelines.project import load_pipeline
from salus.sdk.blobs import BlobCache

if TYPE_CHECKING:
    from tests.pipelines.conftest import Plane

HERE = Path(__file__).parent


def deploy(plane: Plane, *names: str) -> None:
    for name in names:
        plane.client.deploy(load_pipeline(HERE, f"flows.py:{name}"), HERE)


def result_of(plane: Plane, details: PipelineRunDetails, step: str) -> object:
    ref = next(found for found in details.steps if found.step == step).outputs["result"]
    return values.decode(ref, BlobCache(plane.session).get(ref.digest))


def until(holds: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_pipelines_run_fail_resume_and_stop(plane: Plane, tmp_path: Path) -> None:
    plane.start_worker(concurrency=2, lease_s=3.0)
    deploy(plane, "summing", "breaking", "slowly", "hanging", "dying", "asking")
    folder = str(tmp_path)

    done = plane.client.run("summing", {"count": 6, "factor": 3}, timeout_s=60)
    assert result_of(plane, done, "join") == (0 + 1 + 2) * 30 + (3 + 4 + 5) * 30 + 1
    assert all(step.attempts == 1 and (step.peak_memory_bytes or 0) > 0 for step in done.steps)
    again = plane.client.run("summing", {"count": 6, "factor": 1}, timeout_s=60)
    assert [step.step for step in again.steps if step.cached] == ["numbers"]

    asked = plane.client.run("asking", timeout_s=60)
    assert result_of(plane, asked, "who") == [plane.url, asked.run.id, "default"]

    with pytest.raises(SalusError, match="step fragile: ValueError: not mended yet"):
        plane.client.run("breaking", {"folder": folder}, timeout_s=60)
    (summary,) = plane.client.runs("breaking")
    broken = next(step for step in plane.client.show(summary.id).steps if step.step == "fragile")
    assert broken.attempts == 2
    assert broken.traceback is not None
    assert "flows.py" in broken.traceback
    assert "fragile begins" in (broken.log_tail or "")
    (tmp_path / "mended").touch()
    plane.client.resume(summary.id)
    assert plane.client.wait(summary.id, 60).run.state == "succeeded"
    assert (tmp_path / "remembered").read_text() == "once\n"

    for name, error in (("hanging", "longer than its limit"), ("dying", "exit code 3")):
        with pytest.raises(SalusError, match=error):
            plane.client.run(name, timeout_s=60)

    run = plane.client.start("slowly", {"folder": folder})
    until(lambda: (plane.client.show(run.id).steps[0].progress_ratio or 0) > 0, "no progress was shown")
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    plane.client.cancel(run.id)
    until(lambda: plane.client.show(run.id).steps[0].state == "cancelled", "the step was not cancelled")
    until(lambda: not alive(pid), "the step's process was not ended")


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_gives_its_job_back(plane: Plane, tmp_path: Path) -> None:
    worker = plane.start_worker(lease_s=60.0)
    deploy(plane, "slowly")
    run = plane.client.start("slowly", {"folder": str(tmp_path), "seconds": 20.0})
    until(lambda: plane.client.show(run.id).steps[0].state == "running", "the step did not begin")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0, plane.log("worker")
    step = plane.client.show(run.id).steps[0]
    assert (step.state, step.attempts) == ("queued", 1)


@pytest.mark.slow
def test_a_step_outlives_its_server(plane: Plane, tmp_path: Path) -> None:
    plane.start_worker(lease_s=30.0)
    deploy(plane, "slowly")
    run = plane.client.start("slowly", {"folder": str(tmp_path), "seconds": 4.0})
    until(lambda: (tmp_path / "pid").exists(), "the step did not begin")
    plane.server.kill()
    plane.server.wait()
    time.sleep(4.0)
    plane.start_server()
    done = plane.client.wait(run.id, 60)
    assert (done.run.state, done.steps[0].attempts) == ("succeeded", 1)


def salus_command(plane: Plane, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from salus.cli.main import main; main()", *arguments]
    return subprocess.run(command, env=plane.environment, capture_output=True, text=True, timeout=90, check=False)


def test_the_command_line_and_bad_requests(plane: Plane, tmp_path: Path) -> None:
    plane.start_worker()
    deployed = salus_command(plane, "pipelines", "deploy", "flows.py:summing", "--project", str(HERE))
    assert (deployed.returncode, deployed.stdout) == (0, "summing, revision 1: 5 steps\n"), deployed.stderr
    done = salus_command(plane, "pipelines", "run", "summing", "-p", "count=6", "--wait")
    assert done.returncode == 0, done.stderr
    assert "join: succeeded" in done.stdout
    run_id = done.stdout.split()[0]
    assert "summing: succeeded" in salus_command(plane, "pipelines", "show", run_id).stdout
    assert run_id in salus_command(plane, "pipelines", "runs").stdout
    assert "flows.py:summing" in salus_command(plane, "pipelines", "list").stdout
    wrong = salus_command(plane, "pipelines", "run", "summing", "-p", "count=many")
    assert wrong.returncode != 0
    assert "expected int, got 'many' - at $.parameters.count" in wrong.stderr
    missing = salus_command(plane, "pipelines", "run", "nothing")
    assert "there is no pipeline 'nothing'" in missing.stderr
    assert "Traceback" not in wrong.stderr + missing.stderr
    for body, path in (
        ({"worker": "w", "limit": 1000}, "$.limit"),
        ({"worker": "w", "wait_s": -1}, "$.wait_s"),
        ({"worker": "w", "kind": ["x"]}, "$"),
        ({}, "$"),
    ):
        with pytest.raises(InvalidInput) as caught:
            plane.session.call("POST", "/api/v1/jobs/claim", body=body)
        assert caught.value.path == path
    with pytest.raises(InvalidInput, match="five fields"):
        plane.client.schedule("summing", "often", "* * *")


@pytest.mark.slow
def test_code_that_changed_since_it_was_deployed_is_not_run(plane: Plane) -> None:
    plane.start_worker()
    definition = load_pipeline(HERE, "flows.py:asking").definition(HERE)
    raw = plane.session.call("PUT", "/api/v1/pipelines/asking", body=definition, expect=dict)
    graph = raw["graph"]
    graph["steps"][0]["code"] = "sha256:older"
    body = {"entrypoint": raw["entrypoint"], "graph": graph}
    plane.session.call("PUT", "/api/v1/pipelines/asking", body=body)
    with pytest.raises(SalusError, match="is not the code that was deployed"):
        plane.client.run("asking", timeout_s=60)
