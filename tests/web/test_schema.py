"""The OpenAPI document: it is there, it is whole, it names every route."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import urllib3

from salus.testing.servers import running_server, settings_in


def test_the_openapi_document_names_every_route(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as server:
        answer = urllib3.request("GET", server.url + "/schema/openapi.json")
        assert answer.status == 200, answer.data
        document = msgspec.json.decode(answer.data)
    assert document["openapi"].startswith("3.1")
    assert len(document["paths"]) > 50
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in {"get", "post", "put", "delete"}:
                assert operation.get("summary"), (method, path)


def test_large_answers_are_compressed_for_who_asks(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as server:
        plain = urllib3.request("GET", server.url + "/schema/openapi.json")
        packed = urllib3.request(
            "GET",
            server.url + "/schema/openapi.json",
            headers={"Accept-Encoding": "gzip"},
            decode_content=False,
            preload_content=True,
        )
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 4
