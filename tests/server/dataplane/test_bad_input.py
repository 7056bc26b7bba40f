"""Whatever is sent: a problem that names the place and the remedy, and never a 500."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column
from salus.server.dataplane.rows import Asked, RowShape

GOOD = '{"carrier":"UA","origin":"EWR","distance":1400.0,"temp":39.5}'

# body, status, path, part of the detail
BAD = [
    ("", 422, "$", "not valid JSON"),
    ("{", 422, "$", "not valid JSON"),
    ("[" * 100_000, 422, "$", "got `array`"),
    ("[]", 422, "$", "Expected `object`"),
    ("null", 422, "$", "Expected `object`"),
    ("{}", 422, "$.rows", "missing field 'rows'"),
    ('{"rows":[]}', 422, "$.rows", "length >= 1"),
    ('{"rows":{}}', 422, "$.rows", "Expected `array`"),
    ('{"rows":[7]}', 422, "$.rows[0]", "Expected `object`, got `int`"),
    (f'{{"rows":[{GOOD}],"extra":1}}', 422, "$.extra", "unknown field 'extra'"),
    ('{{"rows":[{},{}]}}'.format(GOOD, GOOD.replace('"temp"', '"tmep"')), 422, "$.rows[1].tmep", "unknown column"),
    ('{{"rows":[{}]}}'.format(GOOD.replace(',"temp":39.5', "")), 422, "$.rows[0].temp", "missing column 'temp'"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("39.5", '"warm"')), 422, "$.rows[0].temp", "got `str`"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("39.5", "true")), 422, "$.rows[0].temp", "got `bool`"),
    ('{{"rows":[{}]}}'.format(GOOD.replace('"UA"', "7")), 422, "$.rows[0].carrier", "got `int`"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("39.5", "NaN")), 422, "$", "not valid JSON"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("39.5", "-Infinity")), 422, "$", "not valid JSON"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("39.5", "1e999")), 422, "$.rows[0].temp", "out of range"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("39.5", "1e39")), 422, "$.rows[0].temp", "3.4"),
    ('{{"rows":[{}]}}'.format(GOOD.replace("1400.0", "null")), 422, "$.rows[0].distance", "got `null`"),
    ('{{"rows":[{}]}}'.format(GOOD.replace('"EWR"', '"\\ud800"')), 422, "$", "not valid JSON"),
    (f'{{"rows":[{GOOD}],"keys":[]}}', 422, "$.keys", "one item a row, got 0 for 1"),
    (f'{{"rows":[{GOOD}],"keys":[1]}}', 422, "$.keys[0]", "Expected `str`"),
    (f'{{"rows":[{GOOD}],"event_ms":[1,2]}}', 422, "$.event_ms", "got 2 for 1"),
    (f'{{"rows":[{GOOD}],"event_ms":[-1]}}', 422, "$.event_ms[0]", ">= 0"),
    (f'{{"rows":[{GOOD}],"event_ms":[1.5]}}', 422, "$.event_ms[0]", "Expected `int`"),
    ('{{"rows":[{}]}}'.format(",".join(["{}"] * 10_001)), 422, None, ""),
    (b'{"rows":[{"carrier":"\xff"}]}', 422, "$", "not valid JSON"),
]


def test_the_table_of_bad_bodies(control: Any, start_plane: Callable[..., Any], onnx_models: list[bytes]) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    for body, status, path, part in BAD:
        raw = body if isinstance(body, bytes) else body.encode()
        got, headers, problem = plane.call("POST", "/predict/late", raw)
        what = (raw[:80], problem)
        assert got == status, what
        assert headers["content-type"] == "application/problem+json", what
        assert (problem["status"], problem["type"]) == (422, "urn:salus:invalid-input"), what
        assert problem["path"] == path or path is None, what
        assert part in problem["detail"], what
        assert problem["remedy"], what
    status, _, problem = plane.call("POST", "/predict/nope", GOOD.encode())
    assert status == 404
    assert "nope" in problem["detail"]
    assert "late" in problem["remedy"]
    assert plane.call("POST", "/predict/late", b"{}", {"X-Salus-Workspace": "other"})[0] == 404
    assert plane.call("GET", "/predict/late")[0] == 405
    assert plane.call("DELETE", "/metrics")[0] == 405
    assert plane.call("GET", "/nowhere")[0] == 404
    status, _, problem = plane.call("POST", "/predict/late", b"{}", {"Host": "evil.example:7071"})
    assert status == 403
    assert "SALUS_ALLOWED_HOSTS" in problem["remedy"]
    assert plane.call("POST", "/predict/late", b"{}", {"Origin": "https://evil.example"})[0] == 403
    with socket.create_connection(("127.0.0.1", plane.port), timeout=10) as raw_socket:
        raw_socket.sendall(b"POST /predict/late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777217\r\n\r\n {")
        answer = raw_socket.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"16,777,216" in answer
    assert plane.process.poll() is None
    plane.predict([json.loads(GOOD)])
    plane.until(lambda: control.records)
    assert len(control.records) == 1, "nothing of a refused request is recorded"


def test_chunks_and_broken_connections(control: Any, start_plane: Callable[..., Any], onnx_models: list[bytes]) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    body = (f'{{"rows":[{GOOD}]}}').encode()
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=10)
    connection.request("POST", "/predict/late", iter([body[:20], body[20:]]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", plane.port)) as raw:
            raw.sendall(b"POST /predict/late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{")
    assert plane.predict([json.loads(GOOD)])
    assert plane.call("GET", "/livez")[0] == 200
    plane.until(lambda: "salus_requests_under_way 0" in plane.call("GET", "/metrics")[2])


def test_full_queue_is_told(
    control: Any, start_plane: Callable[..., Any], onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    body = json.dumps({"rows": [row] * 10_000}).encode()
    connections = [http.client.HTTPConnection("127.0.0.1", plane.port, timeout=60) for _ in range(12)]
    for connection in connections:
        connection.request("POST", "/predict/late", body)
    answers = [connection.getresponse() for connection in connections]
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    refused = answers[statuses.index(503)]
    assert refused.getheader("Retry-After") == "1"
    assert json.loads(refused.read())["type"] == "urn:salus:unavailable"
    done = answers[statuses.index(200)]
    assert len(json.loads(done.read())["predictions"]) == 10_000
    for connection in connections:
        connection.close()
    plane.until(lambda: len(control.records) == 10_000 * statuses.count(200))


def test_a_token_is_asked_for_where_authentication_is_on(
    control: Any, start_plane: Callable[..., Any], onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane(SALUS_AUTH="true", SALUS_TOKEN="secret")
    right = {"Authorization": "Bearer secret"}
    plane.until(lambda: plane.call("GET", "/readyz")[0] == 200)
    assert plane.call("GET", "/metrics")[0] == 200
    assert plane.call("GET", "/endpoints/late")[0] == 401
    status, headers, problem = plane.call("POST", "/predict/late", {"rows": [row]})
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert problem["type"] == "urn:salus:unauthenticated"
    assert plane.call("POST", "/predict/late", {"rows": [row]}, {"Authorization": "Bearer no"})[0] == 401
    plane.until(lambda: plane.call("POST", "/predict/late", {"rows": [row]}, right)[0] == 200)


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"SALUS_HOST": "0.0.0.0"}, "this machine only"),
        ({"SALUS_AUTH": "true"}, "no token"),
    ],
)
def test_it_refuses_to_start_open(start_plane: Callable[..., Any], environment: dict[str, str], part: str) -> None:
    plane = start_plane(**environment)
    assert plane.process.wait(20) == 2
    assert part in plane.log.read_text()


COLUMNS = [
    Asked(column=Column(name="a b", dtype="float")),
    Asked(column=Column(name="n", dtype="int", nullable=False)),
    Asked(column=Column(name="s", dtype="string"), required=False),
    Asked(column=Column(name="t", dtype="bool", nullable=False)),
]
SHAPE = RowShape("e", COLUMNS, ("k",), (), 5)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rows", "keys", "event_ms", "a b", "n", "s", "t", "k", "?"]), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(_json | st.fixed_dictionaries({"rows": st.lists(_json, max_size=3)}))
def test_any_json_is_decoded_or_explained(value: Any) -> None:
    raw = json.dumps(value).encode()
    try:
        request = SHAPE.decode(raw)
    except InvalidInput as error:
        path = error.path or ""
    else:
        path = "$"
        types = [(type(n), type(t)) for n, t in map(SHAPE.getter(("n", "t")), request.rows)]
        assert types == [(int, bool)] * len(request.rows)
    assert path.startswith("$")


@given(st.binary(max_size=200))
def test_any_bytes_are_explained(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        SHAPE.decode(raw)
