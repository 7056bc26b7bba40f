"""How a run moves on: which steps are due now, what the end of a step means for the run.

Everything here happens in the transaction of the use case that calls it: the end of a job, the state of its
step, the jobs of the steps behind it, the end of the run and the events of all of them commit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from salus.kernel import jobs
from salus.kernel.identity import Actor
from salus.kernel.sql import Transaction
from salus.pipelines import store
from salus.pipelines.graph import Bound, OutputRef, StepNode, StepTask, bind, step_key
from salus.pipelines.model import STEP_JOB, PipelineRun, PipelineRunFinished, RunState, StepFinished, StepRun, StepState


def advance(tx: Transaction, actor: Actor, run: PipelineRun) -> None:
    """Starts every step whose inputs are there; ends the run when all steps have succeeded.

    A step whose result is known (same key, `cache`) succeeds at once, without a job.
    """
    recorded = {step.step: step for step in store.steps_of(tx, run.id)}
    outputs = {name: step.outputs for name, step in recorded.items() if step.state == "succeeded"}
    for node in run.graph.steps:
        step = recorded[node.name]
        if step.state != "waiting" or not node.upstream <= outputs.keys():
            continue
        arguments, key = bound_step(node, run.parameters, outputs)
        known = store.find_result(tx, run.workspace, key) if node.cache and run.use_cache else None
        if known is None:
            _enqueue(tx, run, node, step, arguments, key)
            continue
        outputs[node.name] = known
        end_step(tx, actor, run, step, "succeeded", key=key, cached=True, outputs=known, started_ms=tx.now_ms)
    if len(outputs) == len(run.graph.steps):
        end_run(tx, actor, run, "succeeded")


def bound_step(
    node: StepNode, parameters: dict[str, Any], outputs: dict[str, dict[str, OutputRef]]
) -> tuple[dict[str, Bound], str]:
    """A step's arguments and key, once the outputs it takes are known."""
    arguments = {name: bind(binding, parameters, outputs) for name, binding in node.arguments.items()}
    return arguments, step_key(node.function, node.code, node.outputs, arguments)


def _enqueue(
    tx: Transaction, run: PipelineRun, node: StepNode, step: StepRun, arguments: dict[str, Bound], key: str
) -> None:
    task = StepTask(
        run=run.id,
        pipeline=run.pipeline,
        step=node.name,
        key=key,
        function=node.function,
        code=node.code,
        arguments=arguments,
        outputs=node.outputs,
    )
    job = jobs.enqueue(
        tx,
        STEP_JOB,
        task,
        workspace=run.workspace,
        max_attempts=node.retries + 1,
        backoff_s=node.backoff_s,
        timeout_s=node.timeout_s,
        concurrency_key=node.concurrency_key,
        concurrency_limit=node.concurrency_limit,
        announce=False,
    )
    store.change_step(tx, step, state="queued", key=key, job_id=job.id, error=None, traceback=None, finished_ms=None)


def end_step(tx: Transaction, actor: Actor, run: PipelineRun, step: StepRun, state: StepState, **values: Any) -> None:
    """Writes a step's end, with its event."""
    store.change_step(tx, step, state=state, finished_ms=tx.now_ms, **values)
    news = StepFinished(
        run=run.id,
        pipeline=run.pipeline,
        step=step.step,
        state=state,
        cached=values.get("cached", False),
        key=values.get("key", step.key),
        attempts=values.get("attempts", step.attempts),
        error=values.get("error"),
    )
    tx.emit(actor, f"pipeline_run:{run.id}", news)


def end_run(tx: Transaction, actor: Actor, run: PipelineRun, state: RunState, error: str | None = None) -> None:
    """Writes a run's end, with its event. Steps that have not begun will not begin."""
    store.change_run(tx, run.id, state=state, error=error, finished_ms=tx.now_ms)
    news = PipelineRunFinished(run=run.id, pipeline=run.pipeline, state=state, error=error)
    tx.emit(actor, f"pipeline_run:{run.id}", news, before=run.state, after=state)


def halt(tx: Transaction, steps: Sequence[StepRun], *, running_too: bool) -> None:
    """Takes back the jobs of steps that wait in the queue; tells those that run to stop, if `running_too`."""
    for step in steps:
        if step.state != "queued" or step.job_id is None:
            continue
        if jobs.get(tx, step.job_id).state == "queued":
            jobs.cancel(tx, step.job_id)
            store.change_step(tx, step, state="waiting", job_id=None)
        elif running_too:
            jobs.cancel(tx, step.job_id)
