"""KeyValue on a real Redis server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from salus.backends.redis import RedisKeyValue, open_redis
from salus.kernel.errors import InvalidInput, Unavailable
from salus.testing.conformance import KeyValueConformance


@pytest.mark.service
class TestRedis(KeyValueConformance):
    @pytest.fixture
    def key_value(self, redis_address: str) -> Iterator[RedisKeyValue]:
        with redis.Redis.from_url(redis_address) as client:
            client.flushall()
        opened = open_redis(redis_address)
        yield opened
        opened.close()


def test_a_server_that_is_away() -> None:
    with pytest.raises(Unavailable):
        open_redis("unix:///nowhere/redis.sock").get_many([b"k"])


def test_an_address_of_something_else() -> None:
    with pytest.raises(InvalidInput, match="no Redis address"):
        open_redis("memcached://x")
