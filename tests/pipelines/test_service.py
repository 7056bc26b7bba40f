"""Runs on the control plane, with a worker played by the test, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from salus.kernel import jobs, ledger, schedules
from salus.kernel.clock import FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.jobs import Job
from salus.pipelines import service, work
from salus.pipelines.graph import (
    Constant,
    FromParameter,
    FromStep,
    Graph,
    OutputRef,
    Parameter,
    PutPipeline,
    StepNode,
    StepTask,
)
from salus.pipelines.model import PipelineRunDetails, PutSchedule, StartPipelineRun
from salus.pipelines.scheduler import Scheduler
from salus.pipelines.work import Beat, ClaimJobs, CompleteJob, FailJob


def node(name: str, *, code: str = "sha256:1", **options: Any) -> StepNode:
    return StepNode(name=name, function=f"flow:{name}", code=code, **options)


def diamond(**options: Any) -> PutPipeline:
    """a -> (b, c) -> d."""
    a = node("a", arguments={"n": FromParameter(name="n")}, **options)
    b = node("b", arguments={"x": FromStep(step="a")}, **options)
    c = node("c", arguments={"x": FromStep(step="a")}, **options)
    d = node("d", arguments={"x": FromStep(step="b"), "y": FromStep(step="c")}, **options)
    return PutPipeline(
        entrypoint="flow.py:flow",
        graph=Graph(steps=(a, b, c, d), result=FromStep(step="d")),
        parameters=(Parameter(name="n", type="int"),),
    )


class Hand:
    """Plays client and worker."""

    def __init__(self, database: SqlDatabase, actor: Actor) -> None:
        self.database = database
        self.actor = actor

    def do(self, use_case: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.database.write(lambda tx: use_case(tx, self.actor, *args, **kwargs))

    def deploy(self, body: PutPipeline) -> None:
        self.do(service.put_pipeline, "flow", body)

    def start(self, n: int = 1, **options: Any) -> str:
        body = StartPipelineRun(parameters={"n": n}, **options)
        run_id: str = self.do(service.start_run, "flow", body).id
        return run_id

    def claim(self, limit: int = 10) -> dict[str, Job]:
        found = self.do(work.claim, ClaimJobs(worker="w", limit=limit))
        return {job.payload["step"]: job for job in found}

    def finish(self, job: Job, content: str | None = None) -> None:
        task = msgspec.convert(job.payload, StepTask)
        digest = f"blake3:{task.key if content is None else content}"
        ref = OutputRef(digest=digest, codec="json", size_bytes=1)
        body = CompleteJob(epoch=job.epoch, result={"outputs": {"result": msgspec.to_builtins(ref)}})
        self.do(work.complete, job.id, body)

    def fail(self, job: Job, error: str = "broken", **options: Any) -> None:
        self.do(work.fail, job.id, FailJob(epoch=job.epoch, error=error, **options))

    def finish_all(self) -> list[str]:
        names = []
        while claimed := self.claim():
            for name, job in claimed.items():
                names.append(name)
                self.finish(job)
        return names

    def look(self, run_id: str) -> PipelineRunDetails:
        return self.database.read(lambda reader: service.describe_run(reader, self.actor, run_id))

    def states(self, run_id: str) -> tuple[str, dict[str, str]]:
        found = self.look(run_id)
        return found.run.state, {step.step: step.state for step in found.steps}

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = self.database.read(lambda reader: ledger.read(reader, kinds=[kind], limit=1000))
        return [entry.data for entry in found]


@pytest.fixture
def hand(database: SqlDatabase, actor: Actor) -> Hand:
    return Hand(database, actor)


def test_steps_start_when_their_inputs_are_there(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    claimed = hand.claim()
    assert list(claimed) == ["a"]
    assert hand.states(run) == ("running", {"a": "running", "b": "waiting", "c": "waiting", "d": "waiting"})
    hand.finish(claimed["a"])
    both = hand.claim()
    assert list(both) == ["b", "c"]
    hand.finish(both["b"])
    assert hand.claim() == {}
    hand.finish(both["c"])
    hand.finish(hand.claim()["d"])
    assert hand.states(run)[0] == "succeeded"
    assert [event["step"] for event in hand.events("StepFinished")] == ["a", "b", "c", "d"]
    assert [event["state"] for event in hand.events("PipelineRunFinished")] == ["succeeded"]


def test_a_result_that_is_reported_twice_is_recorded_once(hand: Hand) -> None:
    hand.deploy(diamond())
    hand.start()
    job = hand.claim()["a"]
    hand.finish(job)
    hand.finish(job)
    assert len(hand.events("StepFinished")) == 1
    assert sorted(hand.claim()) == ["b", "c"]


def test_a_stale_worker_changes_nothing(hand: Hand, clock: FrozenClock) -> None:
    hand.deploy(diamond())
    run = hand.start()
    job = hand.claim()["a"]
    clock.advance(seconds=60)
    hand.database.write(work.sweep)
    taken_over = hand.claim()["a"]
    before = hand.look(run)
    with pytest.raises(Conflict):
        hand.finish(job, "stale")
    with pytest.raises(Conflict):
        hand.fail(job)
    with pytest.raises(Conflict):
        hand.do(work.beat, job.id, Beat(epoch=job.epoch))
    assert hand.look(run) == before
    hand.finish(taken_over, "right")
    assert hand.look(run).steps[0].outputs["result"].digest == "blake3:right"


def test_a_failed_step_fails_the_run_with_its_error(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    hand.finish(hand.claim()["a"])
    both = hand.claim(1)
    hand.fail(both["b"], "ValueError: no rows", traceback="File flow.py, line 3")
    found = hand.look(run)
    assert found.run.state == "failed"
    assert found.run.error == "step b: ValueError: no rows"
    step = found.steps[1]
    assert (step.state, step.error, step.traceback) == ("failed", "ValueError: no rows", "File flow.py, line 3")
    assert hand.claim() == {}
    assert hand.states(run)[1]["c"] == "waiting"


def test_a_step_is_retried_as_often_as_it_says(hand: Hand, clock: FrozenClock) -> None:
    hand.deploy(diamond(retries=1))
    run = hand.start()
    hand.fail(hand.claim()["a"])
    assert hand.states(run) == ("running", {"a": "queued", "b": "waiting", "c": "waiting", "d": "waiting"})
    clock.advance(seconds=2)
    hand.fail(hand.claim()["a"], "again")
    assert hand.states(run)[0] == "failed"


def test_resume_keeps_what_is_finished_and_takes_the_new_code(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    hand.finish(hand.claim()["a"])
    both = hand.claim()
    hand.finish(both["b"])
    hand.fail(both["c"])
    mended = diamond()
    steps = tuple(
        msgspec.structs.replace(step, code="sha256:mended") if step.name == "c" else step for step in mended.graph.steps
    )
    hand.deploy(msgspec.structs.replace(mended, graph=Graph(steps=steps)))
    hand.do(service.resume_run, run)
    assert hand.finish_all() == ["c", "d"]
    assert hand.states(run)[0] == "succeeded"
    with pytest.raises(Conflict, match="is succeeded"):
        hand.do(service.resume_run, run)


def test_resume_runs_again_what_comes_after_changed_code(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    hand.finish(hand.claim()["a"])
    both = hand.claim()
    hand.finish(both["b"])
    hand.fail(both["c"])
    hand.deploy(diamond(code="sha256:all new"))
    hand.do(service.resume_run, run)
    assert hand.finish_all() == ["a", "b", "c", "d"]


def test_a_sibling_that_was_running_when_the_run_failed_is_kept_by_resume(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    hand.finish(hand.claim()["a"])
    both = hand.claim()
    hand.fail(both["c"])
    hand.do(service.resume_run, run)
    hand.finish(both["b"])
    assert hand.finish_all() == ["c", "d"]
    assert hand.states(run)[0] == "succeeded"


def test_cancel_stops_what_runs_and_starts_nothing_more(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    hand.finish(hand.claim()["a"])
    one = hand.claim(1)["b"]
    hand.do(service.cancel_run, run)
    assert hand.states(run)[1]["c"] == "cancelled"
    assert hand.do(work.beat, one.id, Beat(epoch=one.epoch)).cancel
    hand.fail(one, "cancelled")
    assert hand.states(run) == ("cancelled", {"a": "succeeded", "b": "cancelled", "c": "cancelled", "d": "cancelled"})
    assert hand.claim() == {}
    hand.do(service.resume_run, run)
    assert hand.finish_all() == ["b", "c", "d"]
    assert hand.states(run)[0] == "succeeded"


def test_the_cache_serves_other_runs_until_code_or_inputs_change(hand: Hand) -> None:
    hand.deploy(diamond(cache=True))
    hand.start(n=1)
    assert hand.finish_all() == ["a", "b", "c", "d"]
    second = hand.start(n=1)
    assert hand.states(second)[0] == "succeeded"
    assert all(step.cached for step in hand.look(second).steps)
    assert hand.claim() == {}
    hand.start(n=2)
    assert hand.finish_all() == ["a", "b", "c", "d"]
    hand.start(n=1, use_cache=False)
    assert hand.finish_all() == ["a", "b", "c", "d"]
    hand.deploy(diamond(cache=True, code="sha256:2"))
    hand.start(n=1)
    assert hand.finish_all() == ["a", "b", "c", "d"]


def test_without_cache_every_run_runs(hand: Hand) -> None:
    hand.deploy(diamond())
    for _ in range(2):
        hand.start()
        assert hand.finish_all() == ["a", "b", "c", "d"]


def test_a_start_is_idempotent_by_its_key(hand: Hand) -> None:
    hand.deploy(diamond())
    assert hand.start(idempotency_key="alarm 1") == hand.start(idempotency_key="alarm 1")
    assert len(hand.events("PipelineRunStarted")) == 1


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({}, "$.parameters.n"),
        ({"n": "3"}, "$.parameters.n"),
        ({"n": True}, "$.parameters.n"),
        ({"n": 1, "m": 2}, "$.parameters.m"),
    ],
)
def test_wrong_parameters_are_refused_and_leave_nothing(hand: Hand, parameters: dict[str, Any], path: str) -> None:
    hand.deploy(diamond())
    with pytest.raises(InvalidInput) as caught:
        hand.do(service.start_run, "flow", StartPipelineRun(parameters=parameters))
    assert caught.value.path == path
    assert hand.database.read(lambda reader: service.list_runs(reader, hand.actor)) == []
    assert hand.claim() == {}


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (node("a"), node("a")),
        (node("a", arguments={"x": FromStep(step="b")}), node("b")),
        (node("a"), node("b", arguments={"x": FromStep(step="a", output="nothing")})),
        (node("a", arguments={"x": FromParameter(name="unknown")}),),
        (node("a", outputs=("x", "x")),),
    ],
)
def test_an_unlawful_graph_is_refused(hand: Hand, steps: tuple[StepNode, ...]) -> None:
    with pytest.raises(InvalidInput):
        hand.deploy(PutPipeline(entrypoint="flow.py:flow", graph=Graph(steps=steps)))


def test_a_result_with_other_outputs_than_declared_is_refused(hand: Hand) -> None:
    hand.deploy(diamond())
    hand.start()
    job = hand.claim()["a"]
    with pytest.raises(InvalidInput) as caught:
        hand.do(work.complete, job.id, CompleteJob(epoch=job.epoch, result={"outputs": {}}))
    assert caught.value.path == "$.result.outputs"
    hand.finish(job)


def test_a_step_that_takes_every_worker_with_it_fails_the_run(hand: Hand, clock: FrozenClock) -> None:
    hand.deploy(diamond())
    run = hand.start()
    while hand.claim():
        clock.advance(seconds=60)
        hand.database.write(work.sweep)
    state, steps = hand.states(run)
    assert (state, steps["a"]) == ("failed", "failed")


def test_deploying_the_same_again_changes_nothing(hand: Hand, clock: FrozenClock) -> None:
    hand.deploy(diamond())
    clock.advance(seconds=5)
    hand.deploy(diamond())
    assert len(hand.events("PipelineDeployed")) == 1
    hand.deploy(diamond(retries=3))
    assert [event["revision"] for event in hand.events("PipelineDeployed")] == [1, 2]


def test_another_workspace_sees_nothing(hand: Hand, database: SqlDatabase) -> None:
    hand.deploy(diamond())
    run = hand.start()
    stranger = Hand(database, Actor(principal="eve", role="admin", workspace="elsewhere"))
    with pytest.raises(NotFound):
        stranger.look(run)
    assert stranger.claim() == {}
    job = hand.claim()["a"]
    with pytest.raises(NotFound):
        stranger.finish(job)


def test_a_schedule_starts_one_run_each_time(hand: Hand, clock: FrozenClock) -> None:
    hand.deploy(diamond())
    hand.do(service.put_schedule, "flow", "hourly", PutSchedule(cron="0 * * * *", parameters={"n": 7}))
    scheduler = Scheduler(hand.database)
    scheduler.run_once()
    clock.advance(seconds=3 * 3600)
    scheduler.run_once()
    scheduler.run_once()
    (run,) = hand.database.read(lambda reader: service.list_runs(reader, hand.actor))
    assert (run.parameters, run.trigger) == ({"n": 7}, "schedule:flow/hourly")


def test_a_schedule_whose_pipeline_changed_its_parameters_says_so(hand: Hand, clock: FrozenClock) -> None:
    hand.deploy(diamond())
    hand.do(service.put_schedule, "flow", "hourly", PutSchedule(cron="0 * * * *", parameters={"n": 7}))
    other = PutPipeline(entrypoint="flow.py:flow", graph=Graph(steps=(node("a", arguments={"n": Constant(value=1)}),)))
    hand.deploy(other)
    clock.advance(seconds=3600)
    Scheduler(hand.database).run_once()
    (event,) = hand.events("ScheduleFailed")
    assert "no parameter 'n'" in event["error"]
    assert not hand.database.read(lambda reader: schedules.any_due(reader, "pipeline:"))


def test_a_step_shows_its_progress(hand: Hand) -> None:
    hand.deploy(diamond())
    run = hand.start()
    job = hand.claim()["a"]
    beat = msgspec.convert({"epoch": job.epoch, "progress": {"ratio": 0.4, "text": "epoch 4"}}, Beat)
    hand.do(work.beat, job.id, beat)
    step = hand.look(run).steps[0]
    assert (step.state, step.progress_ratio, step.progress_text) == ("running", 0.4, "epoch 4")


def test_a_concurrency_limit_of_steps_holds_over_runs(hand: Hand) -> None:
    hand.deploy(diamond(concurrency_key="gpu", concurrency_limit=1))
    hand.start()
    hand.start()
    assert len(hand.do(work.claim, ClaimJobs(worker="w", limit=10))) == 1
    found = hand.database.read(lambda reader: jobs.recent(reader, "default"))
    assert sorted(job.state for job in found) == ["queued", "running"]
