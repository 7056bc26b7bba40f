"""From a request's body to its answer: decode, look features up, score, record, answer.

Requests that arrive together are scored together: the first of a turn of the event loop asks for the turn's end,
where all that wait are scored in one call a revision and written with one write(2). A request that is alone is
answered at once. A large one is scored in a thread and recorded in slices, so that the loop stays free.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from salus.features.model import entity_key
from salus.kernel.clock import Clock
from salus.kernel.errors import InvalidInput, SalusError, Unavailable
from salus.server.dataplane.counters import Counters
from salus.server.dataplane.limits import Limits
from salus.server.dataplane.online import OnlineFeatures
from salus.server.dataplane.plans import EndpointPlan, Lookup
from salus.server.dataplane.scoring import Scored, score
from salus.server.dataplane.spool import Spool
from salus.serving.wire import prediction_id

_TURN_ROWS = 512
_RETRY_AFTER_S = 1.0

log = logging.getLogger("salus.predict")


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One row's answer, as the client sees it: `outputs` by name, or `error` where the model failed on the row."""

    id: str
    outputs: dict[str, Any] | None
    model: str
    version: str
    revision: str
    error: str | None = None


class Predictions(msgspec.Struct, frozen=True):
    """The answer to a request: one prediction a row, in order."""

    predictions: list[Prediction]


class _Job:
    """A decoded request: rows with their features, the keys as recorded, the keys to split by, event times."""

    __slots__ = ("event_ms", "future", "keys", "plan", "rows", "split_keys")

    def __init__(
        self, plan: EndpointPlan, rows: list[Any], keys: list[str], split_keys: list[str], event_ms: list[int]
    ) -> None:
        self.plan = plan
        self.rows = rows
        self.keys = keys
        self.split_keys = split_keys
        self.event_ms = event_ms
        self.future: asyncio.Future[bytes] | None = None


class Predictor:
    """Answers requests. Lives on the event loop."""

    def __init__(self, spool: Spool, online: OnlineFeatures, counters: Counters, limits: Limits, clock: Clock) -> None:
        self.under_way = 0
        self._spool = spool
        self._online = online
        self._counters = counters
        self._limits = limits
        self._clock = clock
        self._waiting: list[_Job] = []
        self._waiting_rows = 0
        self._unkeyed = itertools.count()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="salus-score")
        self._pack = msgspec.msgpack.Encoder().encode
        self._encode = msgspec.json.Encoder().encode

    def predict(self, plan: EndpointPlan, body: bytes) -> bytes | Awaitable[bytes]:
        """The answer to `body`, once its records are written: at once, or to be awaited.

        Raises (here or when awaited):
            InvalidInput: the body breaks a law.
            Unavailable: too many rows wait already.
            SalusError: the model failed on every row.
        """
        request = plan.shape.decode(body)
        count = len(request.rows)
        if self._waiting_rows + count > self._limits.waiting_rows:
            raise Unavailable(
                f"{self._waiting_rows:,} rows wait already, {self._limits.waiting_rows:,} is the limit",
                remedy="Send fewer at once, or come again later.",
                retry_after_s=_RETRY_AFTER_S,
            )
        job = self._prepare(plan, request)
        if count > self._limits.inline_rows:
            return self._answer_large(job)
        if self.under_way == 1 and not self._waiting:
            return self._answer(job)
        return self._join_turn(job)

    def close(self) -> None:
        """Lets the threads go."""
        self._threads.shutdown()

    def _prepare(self, plan: EndpointPlan, request: Any) -> _Job:
        rows = request.rows
        event_ms = request.event_ms
        if event_ms is None:
            event_ms = [self._clock.now_ms()] * len(rows)
        if plan.lookups:
            for lookup in plan.lookups:
                self._look_up(lookup, rows, event_ms)
        keys = request.keys
        if keys is None:
            keys = [""] * len(rows) if plan.key_of is None else [_text(plan.key_of(row)[0]) for row in rows]
        split_keys = keys
        if plan.only is None and "" in keys:
            plane = self._spool.plane
            split_keys = [key or f"{plane}/{next(self._unkeyed)}" for key in keys]
        return _Job(plan, rows, keys, split_keys, event_ms)

    def _look_up(self, lookup: Lookup, rows: Sequence[Any], event_ms: Sequence[int]) -> None:
        for index, (row, at_ms) in enumerate(zip(rows, event_ms, strict=True)):
            key = entity_key(lookup.keys(row))
            values = self._online.find(lookup.view, key, at_ms, lookup.ttl_s)
            for name, put in lookup.setters:
                value = None if values is None else values.get(name)
                if value is None and name in lookup.required:
                    raise InvalidInput(
                        f"the feature view {lookup.view} has no {name} for {key!r} at {at_ms}, "
                        "and the model takes no null there",
                        path=f"$.rows[{index}]",
                        remedy="Push the feature's rows first, or train with the feature as a float column.",
                    )
                put(row, value)

    def _join_turn(self, job: _Job) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        future = job.future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._end_turn)
        self._waiting.append(job)
        self._waiting_rows += len(job.rows)
        return future

    def _end_turn(self) -> None:
        jobs, rows = [], 0
        for job in self._waiting:
            rows += len(job.rows)
            jobs.append(job)
            if rows >= _TURN_ROWS:
                break
        self._waiting = self._waiting[len(jobs) :]
        self._waiting_rows -= rows
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._end_turn)
        try:
            answers: Iterable[bytes | SalusError] = self._answer_each(jobs)
        except Exception as error:
            log.exception("a turn of %d requests failed", len(jobs))
            answers = itertools.repeat(SalusError(f"the data plane failed: {type(error).__name__}"))
        for job, answer in zip(jobs, answers, strict=False):
            assert job.future is not None
            if job.future.cancelled():
                continue
            if isinstance(answer, bytes):
                job.future.set_result(answer)
            else:
                job.future.set_exception(answer)

    def _answer(self, job: _Job) -> bytes:
        (answer,) = self._answer_each([job])
        if isinstance(answer, SalusError):
            raise answer
        return answer

    def _answer_each(self, jobs: list[_Job]) -> list[bytes | SalusError]:
        """Scores the jobs, those of one plan together, records them, and gives each its answer, in order."""
        by_plan: dict[int, list[_Job]] = {}
        for job in jobs:
            by_plan.setdefault(id(job.plan), []).append(job)
        at_ms = self._clock.now_ms()
        plane, first_seq = self._spool.begin()
        seq = first_seq
        payloads: list[bytes] = []
        answers: dict[int, list[Prediction]] = {}
        for together in by_plan.values():
            plan = together[0].plan
            if len(together) == 1:
                rows, split_keys = together[0].rows, together[0].split_keys
            else:
                rows = [row for job in together for row in job.rows]
                split_keys = [key for job in together for key in job.split_keys]
            scored = score(plan, rows, split_keys)
            start = 0
            for job in together:
                answers[id(job)] = self._record(job, scored, start, 0, len(job.rows), plane, seq, at_ms, payloads)
                seq += len(job.rows)
                start += len(job.rows)
        self._spool.write(payloads)
        return [self._encoded(job, answers[id(job)]) for job in jobs]

    async def _answer_large(self, job: _Job) -> bytes:
        loop = asyncio.get_running_loop()
        count = len(job.rows)
        self._waiting_rows += count
        try:
            scored = await loop.run_in_executor(self._threads, score, job.plan, job.rows, job.split_keys)
            predictions = await self._record_in_slices(job, scored)
        finally:
            self._waiting_rows -= count
        answer = self._encoded(job, predictions)
        if isinstance(answer, SalusError):
            raise answer
        return answer

    async def _record_in_slices(self, job: _Job, scored: Scored) -> list[Prediction]:
        predictions: list[Prediction] = []
        at_ms = self._clock.now_ms()
        for start in range(0, len(job.rows), self._limits.inline_rows):
            stop = min(start + self._limits.inline_rows, len(job.rows))
            plane, seq = self._spool.begin()
            payloads: list[bytes] = []
            predictions += self._record(job, scored, 0, start, stop, plane, seq, at_ms, payloads)
            self._spool.write(payloads)
            await asyncio.sleep(0)
        return predictions

    def _record(
        self,
        job: _Job,
        scored: Scored,
        offset: int,
        start: int,
        stop: int,
        plane: str,
        seq: int,
        at_ms: int,
        payloads: list[bytes],
    ) -> list[Prediction]:
        """The answers to rows `start` to `stop` of `job`, their records appended to `payloads`.

        Row i of the job is row `offset + i` of `scored`; the first record has the number `seq`.
        """
        plan, pack = job.plan, self._pack
        predictions = []
        for index in range(start, stop):
            answers = scored.answers(offset + index)
            revision, _, outputs, error, _ = answers[0]
            served = plan.served[revision]
            payloads.append(
                pack((seq, plan.endpoint, job.event_ms[index], at_ms, job.keys[index], job.rows[index], answers))
            )
            predictions.append(
                Prediction(prediction_id(plane, seq), outputs, served.model, served.version, revision, error)
            )
            seq += 1
        return predictions

    def _encoded(self, job: _Job, predictions: list[Prediction]) -> bytes | SalusError:
        counters = self._counters.of(job.plan.endpoint)
        counters.rows += len(predictions)
        failed = [prediction for prediction in predictions if prediction.error is not None]
        if failed:
            counters.model_errors += len(failed)
            if len(failed) == len(predictions):
                return SalusError(
                    f"{failed[0].model}@{failed[0].version} failed: {failed[0].error}",
                    remedy="The failure is recorded; roll the endpoint back to a version that works.",
                    details=[{"id": p.id, "revision": p.revision, "error": p.error} for p in failed[:100]],
                )
        return self._encode(Predictions(predictions))


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else entity_key([value])
