"""Streams in the process: for tests, demos and one machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from salus.kernel.errors import InvalidInput, Overloaded
from salus.kernel.ports import Message

_MAX_MESSAGES = 1_000_000


@dataclass
class _Group:
    given: int = 0
    committed: int = 0


@dataclass
class _Topic:
    messages: deque[Message] = field(default_factory=deque)
    last: int = 0
    groups: dict[str, _Group] = field(default_factory=dict)

    def forget(self) -> None:
        """Drops what every group has dealt with; a topic that nobody reads keeps all."""
        done = min((group.committed for group in self.groups.values()), default=0)
        while self.messages and self.messages[0].position <= done:
            self.messages.popleft()


class MemoryStreams:
    """Implements `salus.kernel.ports.Streams` in the process; positions count from 1.

    A message is kept until all groups that have polled its topic have committed it. A topic holds at most
    `max_messages`; then `publish` raises `Overloaded`.
    """

    def __init__(self, *, max_messages: int = _MAX_MESSAGES) -> None:
        self._max_messages = max_messages
        self._topics: dict[str, _Topic] = {}
        self._news = threading.Condition()

    def publish(self, topic: str, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """See `salus.kernel.ports.Streams.publish`."""
        with self._news:
            held = self._topics.setdefault(topic, _Topic())
            if len(held.messages) + len(messages) > self._max_messages:
                raise Overloaded(
                    f"the topic {topic} holds {len(held.messages)} messages of at most {self._max_messages}",
                    remedy="Let its consumers catch up.",
                    retry_after_s=1.0,
                )
            for key, value in messages:
                held.last += 1
                held.messages.append(Message(position=held.last, key=key, value=value))
            self._news.notify_all()

    def poll(self, topic: str, group: str, limit: int, timeout_s: float) -> list[Message]:
        """See `salus.kernel.ports.Streams.poll`."""
        with self._news:
            held = self._topics.setdefault(topic, _Topic())
            reader = held.groups.setdefault(group, _Group())
            self._news.wait_for(lambda: held.last > reader.given, timeout_s)
            first = held.messages[0].position if held.messages else held.last + 1
            start = max(0, reader.given + 1 - first)
            end = min(start + limit, len(held.messages))
            given = [held.messages[index] for index in range(start, end)]
            if given:
                reader.given = given[-1].position
            return given

    def commit(self, topic: str, group: str, position: int) -> None:
        """See `salus.kernel.ports.Streams.commit`."""
        with self._news:
            held = self._topics.setdefault(topic, _Topic())
            reader = held.groups.setdefault(group, _Group())
            if position > reader.given:
                raise InvalidInput(
                    f"a group commits at most what it was given ({reader.given}), got {position}",
                    path="$.position",
                )
            reader.committed = max(reader.committed, position)
            held.forget()

    def rewind(self, topic: str, group: str) -> None:
        """See `salus.kernel.ports.Streams.rewind`."""
        with self._news:
            reader = self._topics.setdefault(topic, _Topic()).groups.setdefault(group, _Group())
            reader.given = reader.committed
            self._news.notify_all()


def open_memory_streams(address: str) -> MemoryStreams:
    """Fresh streams at `memory://`."""
    return MemoryStreams()
