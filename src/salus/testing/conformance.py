"""The laws of the ports, as one test class each. A backend of yours passes them by subclassing:

    class TestMyBlobs(BlobsConformance):
        @pytest.fixture
        def blobs(self) -> Blobs:
            return MyBlobs()

Each class names the fixture that a subclass must give.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from salus.kernel import ledger
from salus.kernel.content import digest
from salus.kernel.errors import Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from salus.kernel.identity import Actor
from salus.kernel.ports import Blobs, Database, Executor, KeyValue, Streams, Task
from salus.kernel.sql import Event, Reader, Transaction

_WAIT_S = 20.0
_items = sa.Table(
    "conformance_items", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True, autoincrement=False)
)


class ItemAdded(Event):
    """What the laws of Database record."""

    number: int


def _in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class DatabaseConformance:
    """Give the fixture `database`: an empty Database with all tables. The class adds and uses one of its
    own."""

    @pytest.fixture(autouse=True)
    def _make_items(self, database: Database) -> None:
        database.migrate(_items.create)

    @staticmethod
    def _add(number: int) -> Callable[[Transaction], int]:
        def work(tx: Transaction) -> int:
            tx.execute(sa.insert(_items).values(number=number))
            tx.emit(Actor(principal="ann", role="editor"), f"item:{number}", ItemAdded(number=number))
            return number

        return work

    @staticmethod
    def _count(reader: Reader) -> int:
        return int(reader.value(sa.select(sa.func.count()).select_from(_items)))

    def test_a_write_returns_what_the_work_returns(self, database: Database) -> None:
        assert database.write(self._add(7)) == 7
        assert database.read(self._count) == 1

    def test_work_that_raises_leaves_nothing(self, database: Database) -> None:
        def work(tx: Transaction) -> None:
            self._add(1)(tx)
            raise Conflict("no")

        with pytest.raises(Conflict, match="no"):
            database.write(work)
        assert database.read(self._count) == 0
        assert database.read(ledger.head) == 0

    def test_a_write_sees_all_writes_before_it(self, database: Database) -> None:
        for number in range(20):
            assert database.write(self._count) == number
            database.write(self._add(number))

    def test_no_two_writes_run_at_the_same_time(self, database: Database) -> None:
        def add_next(tx: Transaction) -> None:
            self._add(self._count(tx))(tx)

        def many(index: int) -> None:
            for _ in range(25):
                database.write(add_next)

        _in_threads(8, many)
        assert database.read(self._count) == 200
        assert database.read(ledger.verify).entries == 200

    def test_a_read_sees_one_snapshot_and_waits_for_no_write(self, database: Database) -> None:
        def look(reader: Reader) -> list[int]:
            before = self._count(reader)
            database.write(self._add(1))
            return [before, self._count(reader)]

        def write_and_look(tx: Transaction) -> int:
            self._add(2)(tx)
            return database.read(self._count)

        assert database.read(look) == [0, 0]
        assert database.write(write_and_look) == 1
        assert database.read(self._count) == 2

    def test_a_read_writes_nothing(self, database: Database) -> None:
        with pytest.raises(sa.exc.DBAPIError):
            database.read(lambda reader: reader.execute(sa.insert(_items).values(number=1)))
        assert database.read(self._count) == 0

    def test_listeners_hear_of_commits_with_events(self, database: Database) -> None:
        heard = []
        database.on_commit(lambda: heard.append(1))
        database.write(self._count)
        database.write(self._add(1))
        deadline_s = time.monotonic() + _WAIT_S
        while not heard and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert heard == [1]

    def test_close_lets_nothing_more_in(self, database: Database) -> None:
        database.close()
        with pytest.raises(Unavailable):
            database.write(self._count)


class BlobsConformance:
    """Give the fixture `blobs`: empty Blobs; and `damage(digest)` where stored bytes can be changed."""

    def damage(self, blobs: Blobs, digest: str) -> None:
        """Changes a byte of the stored object."""
        pytest.skip("the stored bytes cannot be reached")

    @pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 5_000])
    def test_what_is_put_can_be_had(self, blobs: Blobs, content: bytes) -> None:
        name = blobs.put(content)
        assert name == digest(content)
        assert blobs.get(name) == content
        assert b"".join(blobs.stream(name, chunk_bytes=1_000)) == content
        info = blobs.info(name)
        assert info is not None
        assert (info.digest, info.size_bytes) == (name, len(content))
        assert abs(info.modified_ms - time.time() * 1000) < 60_000

    def test_a_stream_gets_the_same_digest(self, blobs: Blobs) -> None:
        info = blobs.put_stream(iter([b"ab", b"", b"c" * 3_000_000]))
        assert info.digest == digest(b"ab" + b"c" * 3_000_000)
        assert info.size_bytes == 3_000_002
        assert blobs.get(info.digest)[:4] == b"abcc"

    def test_a_stream_that_fails_leaves_nothing(self, blobs: Blobs) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise Conflict("the sender went away")

        with pytest.raises(Conflict):
            blobs.put_stream(chunks())
        assert list(blobs.list()) == []

    def test_the_same_bytes_are_kept_once(self, blobs: Blobs) -> None:
        names = {blobs.put(b"same"), blobs.put(b"same"), blobs.put_stream(iter([b"sa", b"me"])).digest}
        assert len(names) == 1
        assert [info.digest for info in blobs.list()] == list(names)

    def test_many_at_once(self, blobs: Blobs) -> None:
        def put(index: int) -> None:
            for number in range(20):
                assert blobs.get(blobs.put(b"%d" % number)) == b"%d" % number

        _in_threads(8, put)
        assert {info.digest for info in blobs.list()} == {digest(b"%d" % number) for number in range(20)}

    def test_ranges(self, blobs: Blobs) -> None:
        name = blobs.put(b"0123456789")
        assert blobs.get_range(name, 2, 3) == b"234"
        assert blobs.get_range(name, 8, 100) == b"89"
        assert blobs.get_range(name, 10, 5) == b""
        assert blobs.get_range(name, 3, 0) == b""

    def test_what_is_not_there(self, blobs: Blobs) -> None:
        name = digest(b"never stored")
        assert blobs.info(name) is None
        blobs.delete(name)
        for ask in (
            lambda: blobs.get(name),
            lambda: blobs.get_range(name, 0, 1),
            lambda: blobs.stream(name),
        ):
            with pytest.raises(NotFound):
                ask()

    def test_what_is_deleted_is_gone_and_can_come_back(self, blobs: Blobs) -> None:
        name = blobs.put(b"x")
        blobs.delete(name)
        assert blobs.info(name) is None
        assert list(blobs.list()) == []
        assert blobs.get(blobs.put(b"x")) == b"x"

    @pytest.mark.parametrize("name", ["", "../secret", "blake3:../../etc/passwd", "blake3:" + "A" * 64])
    def test_nothing_but_a_digest_names_an_object(self, blobs: Blobs, name: str) -> None:
        for ask in (
            lambda: blobs.get(name),
            lambda: blobs.get_range(name, 0, 1),
            lambda: blobs.stream(name),
            lambda: blobs.info(name),
            lambda: blobs.delete(name),
        ):
            with pytest.raises(InvalidInput):
                ask()

    def test_changed_bytes_are_found(self, blobs: Blobs) -> None:
        name = blobs.put(b"precious")
        self.damage(blobs, name)
        with pytest.raises(Corrupt):
            blobs.get(name)


class KeyValueConformance:
    """Give the fixture `key_value`: an empty KeyValue."""

    def test_set_and_get_in_order(self, key_value: KeyValue) -> None:
        key_value.set_many([(b"a", b"1"), (b"\x00\xff", b""), (b"c", b"\x00" * 20)])
        assert key_value.get_many([b"c", b"none", b"\x00\xff", b"a"]) == [b"\x00" * 20, None, b"", b"1"]
        key_value.set_many([(b"a", b"2")])
        assert key_value.get_many([b"a", b"a"]) == [b"2", b"2"]

    def test_nothing_asked(self, key_value: KeyValue) -> None:
        assert key_value.get_many([]) == []
        assert key_value.set_if_newer([]) == 0
        key_value.set_many([])
        key_value.delete_many([])

    def test_values_go_when_their_time_has_passed(self, key_value: KeyValue) -> None:
        key_value.set_many([(b"short", b"1")], ttl_s=0.05)
        key_value.set_many([(b"long", b"2")], ttl_s=60)
        key_value.set_many([(b"kept", b"3")], ttl_s=0.05)
        key_value.set_many([(b"kept", b"4")])
        assert key_value.get_many([b"short", b"long", b"kept"]) == [b"1", b"2", b"4"]
        time.sleep(0.08)
        assert key_value.get_many([b"short", b"long", b"kept"]) == [None, b"2", b"4"]

    def test_the_highest_version_stays(self, key_value: KeyValue) -> None:
        assert key_value.set_if_newer([(b"k", 5, b"five"), (b"n", -3, b"minus")]) == 2
        assert key_value.set_if_newer([(b"k", 4, b"four"), (b"n", -4, b"less")]) == 0
        assert key_value.get_many([b"k", b"n"]) == [b"five", b"minus"]
        assert key_value.set_if_newer([(b"k", 5, b"again"), (b"n", 2**62, b"large")]) == 2
        assert key_value.get_many([b"k", b"n"]) == [b"again", b"large"]
        assert key_value.set_if_newer([(b"m", 1, b"1"), (b"m", 3, b"3"), (b"m", 2, b"2")]) == 2
        assert key_value.get_many([b"m"]) == [b"3"]

    def test_versions_whatever_the_order_of_writers(self, key_value: KeyValue) -> None:
        def write(index: int) -> None:
            for version in range(index, 400, 8):
                key_value.set_if_newer([(b"k", version, b"%d" % version)])

        _in_threads(8, write)
        assert key_value.get_many([b"k"]) == [b"399"]

    def test_a_plain_value_is_older_than_any_version(self, key_value: KeyValue) -> None:
        key_value.set_many([(b"k", b"plain")])
        assert key_value.set_if_newer([(b"k", -(2**60), b"versioned")]) == 1
        key_value.set_many([(b"k", b"plain")])
        assert key_value.get_many([b"k"]) == [b"plain"]

    def test_counters_are_atomic(self, key_value: KeyValue) -> None:
        def count(index: int) -> None:
            for _ in range(50):
                key_value.add(b"n", 1)

        _in_threads(8, count)
        assert key_value.add(b"n", -400) == 0
        assert key_value.add(b"n", 2**53) == 2**53
        assert key_value.get_many([b"n"]) == [b"%d" % 2**53]

    def test_a_counter_s_time_counts_from_the_first_addition(self, key_value: KeyValue) -> None:
        assert key_value.add(b"n", 2, ttl_s=0.15) == 2
        time.sleep(0.1)
        assert key_value.add(b"n", 3, ttl_s=0.15) == 5
        time.sleep(0.08)
        assert key_value.add(b"n", 1, ttl_s=0.15) == 1

    def test_a_value_that_is_no_counter(self, key_value: KeyValue) -> None:
        key_value.set_many([(b"k", b"text")])
        with pytest.raises(InvalidInput):
            key_value.add(b"k", 1)

    def test_delete(self, key_value: KeyValue) -> None:
        key_value.set_many([(b"a", b"1"), (b"b", b"2")])
        key_value.set_if_newer([(b"v", 9, b"9")])
        key_value.delete_many([b"a", b"v", b"never"])
        assert key_value.get_many([b"a", b"b", b"v"]) == [None, b"2", None]
        assert key_value.set_if_newer([(b"v", 1, b"1")]) == 1


def echo(**arguments: object) -> dict[str, object]:
    """A task that gives its arguments back."""
    return dict(arguments)


def fail(text: str) -> None:
    """A task that raises."""
    raise ValueError(text)


def leave() -> None:
    """A task that asks to exit, which must not end its process."""
    sys.exit(3)


def die() -> None:
    """A task that is killed, as by the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_after(path: str, seconds: float) -> str:
    """A task that writes a file, then takes its time."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def speak(lines: int) -> None:
    """A task that writes a lot to its standard output and error."""
    for number in range(lines):
        sys.stdout.write(f"line {number}\n")
    sys.stderr.write("and an error\n")


def burn(seconds: float, megabytes: int) -> int:
    """A task that uses processor time and memory."""
    held = bytearray(megabytes << 20)
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass
    return len(held)


def unlawful() -> float:
    """A task whose result JSON cannot hold."""
    return float("nan")


class ExecutorConformance:
    """Give the fixture `executor`: an Executor with room for two tasks at a time on this machine."""

    @staticmethod
    def _task(name: str, timeout_s: float | None = None, **arguments: object) -> Task:
        return Task(function=f"{__name__}:{name}", arguments=arguments, timeout_s=timeout_s)

    def test_a_result_comes_back(self, executor: Executor) -> None:
        value: dict[str, Any] = {"text": "Zürich", "number": 1.5, "list": [1, None, {"deep": True}]}
        outcome = executor.submit(self._task("echo", **value)).wait(_WAIT_S)
        assert outcome is not None
        assert outcome.ok
        assert outcome.result == value

    def test_an_error_comes_back_with_its_place(self, executor: Executor) -> None:
        outcome = executor.submit(self._task("fail", text="broken")).wait(_WAIT_S)
        assert outcome is not None
        assert (outcome.ok, outcome.crashed, outcome.error) == (False, False, "ValueError: broken")
        assert "in fail" in outcome.traceback

    @pytest.mark.parametrize("name", ["leave", "unlawful", "no_such_function"])
    def test_what_goes_wrong_is_an_outcome(self, executor: Executor, name: str) -> None:
        outcome = executor.submit(self._task(name)).wait(_WAIT_S)
        assert outcome is not None
        assert not outcome.ok
        assert not outcome.crashed
        assert outcome.error

    def test_a_task_that_dies_harms_no_other(self, executor: Executor) -> None:
        for _ in range(2):
            outcome = executor.submit(self._task("die")).wait(_WAIT_S)
            assert outcome is not None
            assert (outcome.ok, outcome.crashed) == (False, True)
            after = executor.submit(self._task("echo", n=1)).wait(_WAIT_S)
            assert after is not None
            assert after.result == {"n": 1}

    def test_more_tasks_than_room(self, executor: Executor) -> None:
        handles = [executor.submit(self._task("echo", n=number)) for number in range(50)]
        outcomes = [handle.wait(_WAIT_S) for handle in handles]
        assert [outcome.result["n"] for outcome in outcomes if outcome] == list(range(50))

    def test_waiting_can_give_up(self, executor: Executor, tmp_path: Path) -> None:
        handle = executor.submit(self._task("sleep_after", path=str(tmp_path / "f"), seconds=0.5))
        assert handle.wait(0.01) is None
        outcome = handle.wait(_WAIT_S)
        assert outcome is not None
        assert outcome.result == "slept"

    def test_a_task_that_takes_too_long_is_ended(self, executor: Executor, tmp_path: Path) -> None:
        task = self._task("sleep_after", timeout_s=0.5, path=str(tmp_path / "f"), seconds=60)
        started_s = time.monotonic()
        outcome = executor.submit(task).wait(_WAIT_S)
        assert outcome is not None
        assert not outcome.ok
        assert "0.5 s" in outcome.error
        assert time.monotonic() - started_s < _WAIT_S / 2

    def test_a_cancelled_task_ends_at_once(self, executor: Executor, tmp_path: Path) -> None:
        started = tmp_path / "started"
        tasks = [self._task("sleep_after", path=str(started) + str(n), seconds=60) for n in range(3)]
        handles = [executor.submit(task) for task in tasks]
        deadline_s = time.monotonic() + _WAIT_S
        while not Path(f"{started}0").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        for handle in reversed(handles):
            handle.cancel()
        for handle in handles:
            outcome = handle.wait(_WAIT_S)
            assert outcome is not None
            assert not outcome.ok
        after = executor.submit(self._task("echo", n=1)).wait(_WAIT_S)
        assert after is not None
        assert after.ok

    def test_cancelling_what_is_done_changes_nothing(self, executor: Executor) -> None:
        handle = executor.submit(self._task("echo", n=1))
        first = handle.wait(_WAIT_S)
        handle.cancel()
        assert handle.wait(_WAIT_S) == first
        after = executor.submit(self._task("echo", n=2)).wait(_WAIT_S)
        assert after is not None
        assert after.ok

    def test_the_end_of_what_it_wrote_is_kept(self, executor: Executor) -> None:
        outcome = executor.submit(self._task("speak", lines=50_000)).wait(_WAIT_S)
        assert outcome is not None
        assert outcome.ok
        assert outcome.logs.endswith("line 49999\nand an error\n")
        assert len(outcome.logs) <= 64 * 1024
        quiet = executor.submit(self._task("echo")).wait(_WAIT_S)
        assert quiet is not None
        assert quiet.logs == ""

    def test_what_it_used_is_measured(self, executor: Executor) -> None:
        outcome = executor.submit(self._task("burn", seconds=0.2, megabytes=100)).wait(_WAIT_S)
        assert outcome is not None
        assert outcome.cpu_s >= 0.2
        assert outcome.peak_memory_bytes > 100 << 20

    def test_close_ends_all(self, executor: Executor, tmp_path: Path) -> None:
        handle = executor.submit(self._task("sleep_after", path=str(tmp_path / "f"), seconds=60))
        executor.close()
        outcome = handle.wait(_WAIT_S)
        assert outcome is not None
        assert not outcome.ok
        with pytest.raises(Unavailable):
            executor.submit(self._task("echo"))


class StreamsConformance:
    """Give the fixture `streams`: empty Streams."""

    def test_messages_come_in_order(self, streams: Streams) -> None:
        streams.publish("t", [(b"a", b"1"), (b"b", b"2")])
        streams.publish("t", [(b"a", b"3")])
        first = streams.poll("t", "g", 2, 0)
        second = streams.poll("t", "g", 2, 0)
        assert [(m.key, m.value) for m in first + second] == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
        positions = [m.position for m in first + second]
        assert positions == sorted(set(positions))
        assert streams.poll("t", "g", 2, 0) == []

    def test_each_group_gets_all(self, streams: Streams) -> None:
        for group in ("g", "h"):
            assert streams.poll("t", group, 1, 0) == []
        streams.publish("t", [(b"", b"1"), (b"", b"2")])
        for group in ("g", "h"):
            given = streams.poll("t", group, 10, 0)
            assert [m.value for m in given] == [b"1", b"2"]
            streams.commit("t", group, given[-1].position)
        assert streams.poll("other", "g", 10, 0) == []

    def test_what_is_not_committed_is_given_again(self, streams: Streams) -> None:
        streams.publish("t", [(b"", b"%d" % number) for number in range(5)])
        given = streams.poll("t", "g", 5, 0)
        streams.commit("t", "g", given[1].position)
        assert streams.poll("t", "g", 5, 0) == []
        streams.rewind("t", "g")
        assert [m.value for m in streams.poll("t", "g", 5, 0)] == [b"2", b"3", b"4"]

    def test_polling_waits_for_the_first(self, streams: Streams) -> None:
        timer = threading.Timer(0.05, lambda: streams.publish("t", [(b"", b"late")]))
        timer.start()
        assert [m.value for m in streams.poll("t", "g", 5, _WAIT_S)] == [b"late"]
        timer.join()
        started_s = time.monotonic()
        assert streams.poll("t", "g", 5, 0.05) == []
        assert time.monotonic() - started_s >= 0.04

    def test_two_consumers_of_a_group_share(self, streams: Streams) -> None:
        streams.publish("t", [(b"", b"%d" % number) for number in range(100)])
        seen: list[bytes] = []

        def consume(index: int) -> None:
            while given := streams.poll("t", "g", 7, 0):
                seen.extend(m.value for m in given)

        _in_threads(4, consume)
        assert sorted(seen) == sorted(b"%d" % number for number in range(100))
