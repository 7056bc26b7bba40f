"""What comes over a bare socket: depth, size, halves of requests, paths, hosts, headers, and many at once."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from salus.testing.servers import running_server, settings_in

API = "/api/v1"
DEEP = (b"[" * 200_000, b'{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000)


_END = b"\r\nConnection: close\r\n\r\n"


def exchange(town: Any, raw: bytes, *, wait_s: float = 5.0) -> bytes:
    """Sends `raw` over a connection of its own and returns what comes back until the end or `wait_s`."""
    place = urlsplit(town.server.url)
    with closing(socket.create_connection((place.hostname, place.port), timeout=wait_s)) as line:
        line.sendall(raw)
        parts = []
        try:
            while part := line.recv(65_536):
                parts.append(part)
        except (TimeoutError, ConnectionResetError):
            pass
    return b"".join(parts)


def alive(town: Any) -> bool:
    return bool(town.send("GET", "/healthz").status == 200)


def test_depth_is_refused_on_every_route_that_takes_json(town: Any, check: Callable[..., None]) -> None:
    routes = [operation for operation in town.operations() if operation.takes_json]
    assert len(routes) > 30
    for number, operation in enumerate(routes):
        for raw in DEEP if number < 3 else DEEP[:1]:
            head = town.head()
            answer = town.send(operation.method, town.address(operation.template), raw)
            check(town, answer, head, operation.template)
            assert answer.status == 422, (operation.template, answer)
            assert answer.problem["path"] == "$"


def test_what_can_be_stored_can_be_read_again(town: Any) -> None:
    """The deepest lawful value goes into run, gate and ledger, and the whole chain still verifies."""
    value: Any = 1
    for _ in range(90):
        value = [value]
    gates = {"gates": [{"name": "deep", "passed": True, "evidence": {"a": value}}]}
    answer = town.send("POST", f"{API}/models/delay/versions/1.0.0/gates", json.dumps(gates).encode())
    assert answer.status == 200, answer.body
    assert town.send("GET", f"{API}/models/delay/versions").status == 200
    assert town.send("GET", f"{API}/ledger/verify").status == 200


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Any]:
    """A control plane that takes at most 100,000 bytes in a body."""
    settings = msgspec.structs.replace(settings_in(tmp_path), max_body_bytes=100_000)
    with running_server(settings) as running:
        yield running


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_while_memory_stays_flat(narrow: Any, declared: bool) -> None:
    place = urlsplit(narrow.url)
    process = psutil.Process()
    before = process.memory_info().rss
    head = f"POST {API}/runs HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    head += "Content-Length: 200000000\r\n\r\n" if declared else "Transfer-Encoding: chunked\r\n\r\n"
    with closing(socket.create_connection((place.hostname, place.port), timeout=10)) as line:
        line.sendall(head.encode())
        piece = b"x" * 65_536 if declared else b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        try:
            for _ in range(3_000):
                line.sendall(piece)
        except OSError:
            pass
        try:
            answer = line.recv(65_536)
        except ConnectionResetError:
            answer = b""
    assert not answer or b" 413 " in answer.split(b"\r\n", 1)[0]
    assert process.memory_info().rss - before < 40_000_000
    status = narrow.session.send("GET", f"{API}/status")
    assert json.loads(status)["ledger_entries"] == 0


@contextmanager
def half_sent(town: Any, count: int) -> Iterator[None]:
    """Opens `count` requests that never end."""
    place = urlsplit(town.server.url)
    lines = []
    try:
        for number in range(count):
            line = socket.create_connection((place.hostname, place.port), timeout=5)
            lines.append(line)
            sent = f"POST {API}/runs HTTP/1.1\r\nHost: {place.netloc}\r\n"
            if number % 2:
                sent += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
            line.sendall(sent.encode())
        yield
    finally:
        for line in lines:
            line.close()


def test_half_sent_requests_by_the_hundred_hold_up_nobody(town: Any) -> None:
    head = town.head()
    with half_sent(town, 300):
        begun = time.monotonic()
        for _ in range(20):
            assert alive(town)
            assert town.send("GET", f"{API}/models/delay").status == 200
        assert time.monotonic() - begun < 5.0
    assert town.entries_of_clients(head) == []


TRICKS = [
    "..",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cwindows",
    "%252e%252e%252f",
    "a%00b",
    "%00",
    "%ff%fe",
    "%c0%ae%c0%ae%c0%af",
    "%F0%9F%92%A5",
    "%E2%80%AE%D8%A7",
    "k" * 20_000,
    "a;b",
    "a%0d%0aX-Injected:%20yes",
    "%7B%7B7*7%7D%7D",
    "'%20OR%201=1--",
    "%25s%25n",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_path_tricks_find_nothing_and_break_nothing(town: Any, check: Callable[..., None], trick: str) -> None:
    host = urlsplit(town.server.url).netloc
    for operation in town.operations():
        names = [parameter["name"] for parameter in operation.parameters if parameter["in"] == "path"]
        if operation.method != "GET" or not names:
            continue
        for name in names:
            address = town.address(operation.template, **{name: trick})
            raw = exchange(
                town, f"GET {address} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(), wait_s=10
            )
            line, _, rest = raw.partition(b"\r\n")
            status = int(line.split()[1]) if line else 400
            assert status < 500, (address[:100], raw[:300])
            assert b"root:" not in raw
            assert b"x-injected" not in rest.lower().partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "headers",
    [
        "Host: evil.example",
        "Host: 127.0.0.1.evil.example",
        "Host: evil.example\r\nX-Forwarded-Host: 127.0.0.1",
        "Host: 127.0.0.1:7070@evil.example",
        "Host: ",
    ],
)
def test_foreign_hosts_get_nothing(town: Any, headers: str) -> None:
    for address in ("/", f"{API}/models", "/schema/openapi.json", "/healthz"):
        raw = exchange(town, f"GET {address} HTTP/1.1\r\n{headers}".encode() + _END)
        assert raw.split()[1] in {b"421", b"400"}, (headers, raw[:200])


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"])
def test_foreign_origins_change_nothing(town: Any, origin: str) -> None:
    head = town.head()
    for operation in town.operations():
        if operation.method == "GET":
            continue
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        answer = town.send(operation.method, town.address(operation.template), b"{}", headers)
        assert answer.status == 403, (operation.template, answer)
        assert answer.problem["path"] == "Origin"
    assert town.entries_of_clients(head) == []


@pytest.mark.parametrize(
    "header",
    [
        b"Idempotency-Key: " + b"k" * 5_000,
        b"Idempotency-Key: ",
        b"Idempotency-Key: \xff\xfe\xb2",
        b"X-Salus-Workspace: " + b"w" * 300,
        b"X-Salus-Workspace: \xff\xfe",
        b"X-Salus-Workspace: ../other",
        b"Authorization: Bearer \xff\xfe",
        b"Authorization: Basic YTpi",
        b"Authorization: Bearer " + b"x" * 5_000,
        b"Content-Type: \xff",
        b"Content-Type: multipart/form-data",
        b"Content-Encoding: gzip",
        b"Accept: \xff/\xfe;q=nan",
        b"Last-Event-ID: \xb2",
        b"Cookie: " + b"a=b; " * 1_000,
        b"X-Evil: a\r\n b",
    ],
)
def test_hostile_headers_are_refused_or_mean_nothing(town: Any, header: bytes) -> None:
    host = urlsplit(town.server.url).netloc.encode()
    body = b'{"experiment": "delays"}'
    parts = [b"POST " + API.encode() + b"/runs HTTP/1.1", b"Host: " + host, header, b"Connection: close"]
    if not header.startswith(b"Content-Type"):
        parts.append(b"Content-Type: application/json")
    raw = exchange(town, b"\r\n".join([*parts, b"Content-Length: %d" % len(body), b"", body]))
    assert raw.split(b" ", 2)[1][:1] in {b"2", b"4"}, raw[:300]
    assert alive(town)


@pytest.mark.parametrize("last", [b"\xb2", b"-1", b"9" * 30, b"x"])
def test_a_feed_resumes_only_behind_a_number(town: Any, last: bytes) -> None:
    host = urlsplit(town.server.url).netloc.encode()
    raw = exchange(town, b"GET /api/v1/live HTTP/1.1\r\nHost: " + host + b"\r\nLast-Event-ID: " + last + _END)
    assert raw.split()[1] == b"422", raw[:300]
    assert b'"path":"Last-Event-ID"' in raw


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01", b"GET\r\n\r\n", b"\0" * 1_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n"])
def test_what_is_no_http_ends_its_own_connection_only(town: Any, garbage: bytes) -> None:
    exchange(town, garbage, wait_s=0.3)
    assert alive(town)


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(count)

    def one(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_sixty_four_clients_that_make_the_same_thing_make_one(town: Any) -> None:
    cases: list[tuple[str, str, Any, str]] = [
        ("POST", "/experiments", {"name": "crowded"}, "/experiments"),
        ("PUT", "/models/crowded", {"description": "d"}, "/models"),
        ("PUT", "/endpoints/crowded", {"description": "d"}, "/endpoints"),
        ("PUT", "/datasets/crowded", {"description": "d"}, "/datasets"),
        ("PUT", "/features/views/crowded", town.lawful("PUT", f"{API}/features/views/{{name}}"), "/features/views"),
        ("PUT", "/pipelines/crowded", town.lawful("PUT", f"{API}/pipelines/{{name}}"), "/pipelines"),
    ]
    for method, address, body, listing in cases:
        raw = json.dumps(body).encode()
        answers = at_once(64, lambda _, m=method, a=address, r=raw: town.send(m, API + a, r))
        assert {answer.status for answer in answers} <= {200, 409}, (address, answers[0])
        found = json.loads(town.send("GET", API + listing).body)
        items = found["items"] if isinstance(found, dict) else found
        assert [item["name"] for item in items].count("crowded") == 1


def test_one_key_at_once_and_with_another_body_starts_one_run(town: Any) -> None:
    before = town.head()
    headers = {"Idempotency-Key": "crowded"}
    address = f"{API}/runs"
    answers = at_once(64, lambda _: town.send("POST", address, b'{"experiment": "delays"}', headers))
    assert {answer.status for answer in answers} == {200}
    assert len({json.loads(answer.body)["id"] for answer in answers}) == 1
    assert town.entries_of_clients(before) == ["RunStarted"]
    other = town.send("POST", address, b'{"experiment": "other"}', headers)
    assert (other.status, other.problem["path"]) == (409, "Idempotency-Key")
    assert town.entries_of_clients(before) == ["RunStarted"]
