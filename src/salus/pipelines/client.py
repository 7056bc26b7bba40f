"""Pipelines in the SDK: deploy, run, watch, cancel, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from salus.kernel.errors import SalusError, Unavailable
from salus.kernel.schedules import Schedule
from salus.pipelines.definition import PipelineFunction
from salus.pipelines.model import (
    Pipeline,
    PipelineRun,
    PipelineRunDetails,
    PipelineRunSummary,
    PutSchedule,
    StartPipelineRun,
)
from salus.sdk.session import Session, path
from salus.web.pagination import Page

_POLL_S = 0.25


class PipelinesClient:
    """What a program can do with pipelines."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def deploy(self, pipeline: PipelineFunction, project: Path | None = None) -> Pipeline:
        """Records the pipeline's graph and puts it onto the server under its name."""
        definition = pipeline.definition(project)
        return self._session.call("PUT", path("pipelines", pipeline.name), body=definition, expect=Pipeline)

    def list(self) -> list[Pipeline]:
        """All pipelines by name."""
        return self._session.call("GET", path("pipelines"), expect=list[Pipeline])

    def get(self, name: str) -> Pipeline:
        """One pipeline with its graph."""
        return self._session.call("GET", path("pipelines", name), expect=Pipeline)

    def start(
        self,
        name: str,
        parameters: dict[str, Any] | None = None,
        *,
        use_cache: bool = True,
        trigger: str = "",
        idempotency_key: str | None = None,
    ) -> PipelineRun:
        """Starts a run. The same `idempotency_key` starts one run, however often it is used."""
        body = StartPipelineRun(
            parameters=parameters or {}, use_cache=use_cache, trigger=trigger, idempotency_key=idempotency_key
        )
        return self._session.call("POST", path("pipelines", name, "runs"), body=body, expect=PipelineRun, once=True)

    def runs(self, pipeline: str | None = None, limit: int = 100) -> Sequence[PipelineRunSummary]:
        """Runs, newest first."""
        query = {"pipeline": pipeline, "limit": limit}
        found = self._session.call("GET", path("pipeline-runs"), query=query, expect=Page[PipelineRunSummary])
        return found.items

    def show(self, run_id: str) -> PipelineRunDetails:
        """A run with its steps as they are now."""
        return self._session.call("GET", path("pipeline-runs", run_id), expect=PipelineRunDetails)

    def wait(
        self,
        run_id: str,
        timeout_s: float | None = None,
        watch: Callable[[PipelineRunDetails], None] | None = None,
    ) -> PipelineRunDetails:
        """Returns when the run is over, whatever its end; `watch` is called with each look at it.

        Raises:
            Unavailable: it is not over after `timeout_s`.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = self._look(run_id)
            if found is not None:
                if watch is not None:
                    watch(found)
                if found.run.state != "running":
                    return found
            if until_s is not None and time.monotonic() > until_s:
                raise Unavailable(
                    f"{run_id} is not over after {timeout_s} s",
                    remedy="Look whether a worker runs: salus worker.",
                )
            time.sleep(_POLL_S)

    def _look(self, run_id: str) -> PipelineRunDetails | None:
        try:
            return self.show(run_id)
        except Unavailable:
            return None

    def run(
        self, name: str, parameters: dict[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> PipelineRunDetails:
        """Starts a run and waits for its success.

        Raises:
            SalusError: it failed or was cancelled; the text is the step's error.
        """
        done = self.wait(self.start(name, parameters).id, timeout_s)
        if done.run.state != "succeeded":
            raise SalusError(
                f"{done.run.id} of {name} {done.run.state}: {done.run.error}",
                remedy=f"Mend it, deploy again, then: salus pipelines resume {done.run.id}",
            )
        return done

    def cancel(self, run_id: str) -> PipelineRunDetails:
        """Stops a run."""
        return self._session.call("POST", path("pipeline-runs", run_id, "cancel"), expect=PipelineRunDetails)

    def resume(self, run_id: str) -> PipelineRunDetails:
        """Lets a failed or cancelled run go on; finished steps that are still the same are kept."""
        return self._session.call("POST", path("pipeline-runs", run_id, "resume"), expect=PipelineRunDetails)

    def schedule(self, name: str, schedule: str, cron: str, parameters: dict[str, Any] | None = None) -> Schedule:
        """Lets a pipeline run by the clock: five cron fields, UTC."""
        body = PutSchedule(cron=cron, parameters=parameters or {})
        return self._session.call("PUT", path("pipelines", name, "schedules", schedule), body=body, expect=Schedule)
