"""KeyValue on Redis (extra `redis`): shared by all processes, and there after a restart of Salus.

A value is kept with one byte before it: 0 and a version of eight bytes (big-endian, moved up by 2^63 so that
bytes sort as numbers), or 1 for a value without version. Counters are Redis's own decimal text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import ConnectionError as AwayError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as LateError

from salus.kernel.errors import InvalidInput, StorageFull, Unavailable

T = TypeVar("T")

_VERSIONED, _PLAIN = b"\x00", b"\x01"
_HEADER_BYTES = 9
_OFFSET = 1 << 63
_TIMEOUT_S = 5.0

_SET_IF_NEWER = """
local held = redis.call('GETRANGE', KEYS[1], 0, 8)
if #held == 9 and string.byte(held, 1) == 0 then
  for i = 2, 9 do
    local new, old = string.byte(ARGV[1], i), string.byte(held, i)
    if new > old then break end
    if new < old then return 0 end
  end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""

_ADD = """
local fresh = redis.call('EXISTS', KEYS[1]) == 0
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
if fresh and ARGV[2] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return sum
"""


class RedisKeyValue:
    """Implements `salus.kernel.ports.KeyValue` on a Redis server."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._newer = client.register_script(_SET_IF_NEWER)
        self._add = client.register_script(_ADD)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `salus.kernel.ports.KeyValue.get_many`."""
        if not keys:
            return []
        held: list[Any] = self._call(lambda: self._client.mget(list(keys)))
        return [None if value is None else _unpacked(value) for value in held]

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: float | None = None) -> None:
        """See `salus.kernel.ports.KeyValue.set_many`."""
        ttl_ms = _ttl_ms(ttl_s)

        def send() -> Any:
            with self._client.pipeline(transaction=False) as pipeline:
                for key, value in items:
                    pipeline.set(key, _PLAIN + value, px=ttl_ms)
                return pipeline.execute()

        if items:
            self._call(send)

    def set_if_newer(self, items: Sequence[tuple[bytes, int, bytes]]) -> int:
        """See `salus.kernel.ports.KeyValue.set_if_newer`."""

        def send() -> list[int]:
            with self._client.pipeline(transaction=False) as pipeline:
                for key, version, value in items:
                    packed = _VERSIONED + (version + _OFFSET).to_bytes(8, "big") + value
                    self._newer(keys=[key], args=[packed], client=pipeline)
                answers: list[int] = pipeline.execute()
                return answers

        return sum(self._call(send)) if items else 0

    def add(self, key: bytes, amount: int, ttl_s: float | None = None) -> int:
        """See `salus.kernel.ports.KeyValue.add`."""
        ttl_ms = _ttl_ms(ttl_s)
        try:
            return int(self._call(lambda: self._add(keys=[key], args=[amount, ttl_ms or ""])))
        except ResponseError as error:
            raise InvalidInput(
                f"the value of {key!r} is no counter", remedy="Use another key for the counter."
            ) from error

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """See `salus.kernel.ports.KeyValue.delete_many`."""
        if keys:
            self._call(lambda: self._client.delete(*keys))

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()

    def _call(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except (AwayError, LateError) as error:
            raise Unavailable(f"Redis is away: {error}", retry_after_s=1.0) from error
        except RedisError as error:
            if str(error).startswith("OOM"):
                raise StorageFull(
                    "Redis is out of memory", remedy="Raise its maxmemory or choose an eviction policy."
                ) from error
            raise


def _ttl_ms(ttl_s: float | None) -> int | None:
    return None if ttl_s is None else max(1, math.ceil(ttl_s * 1000))


def _unpacked(value: bytes) -> bytes:
    if value[:1] == _VERSIONED:
        return value[_HEADER_BYTES:]
    return value[1:] if value[:1] == _PLAIN else value


def open_redis(address: str) -> RedisKeyValue:
    """The key-value store at `redis://host:port/0`, `rediss://…` or `unix://socket`.

    Raises:
        InvalidInput: Redis's own library does not understand the address.
    """
    try:
        client = redis.Redis.from_url(
            address, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, health_check_interval=30
        )
    except ValueError as error:
        raise InvalidInput(f"{address} is no Redis address: {error}", path="SALUS_KEY_VALUE") from error
    return RedisKeyValue(client)
