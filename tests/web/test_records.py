"""The ledger, the lineage, the live feed and blobs over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import pytest
import urllib3

from salus.kernel.content import digest
from salus.kernel.errors import InvalidInput, NotFound
from salus.kernel.ledger import Entry, Verdict
from salus.kernel.lineage import Graph
from salus.sdk.session import path
from salus.testing.servers import RunningServer
from salus.tracking.model import Run
from salus.web.blobs import StoredBlob
from salus.web.pagination import Page


def start_run(server: RunningServer, **body: object) -> Run:
    return server.session.call("POST", path("runs"), body=body, expect=Run)


def test_what_happened_is_in_the_ledger_in_order(server: RunningServer) -> None:
    runs = [start_run(server, name=f"run {i}") for i in range(5)]
    query = {"kind": "RunStarted", "limit": 3}
    first = server.session.call("GET", path("ledger"), query=query, expect=Page[Entry])
    rest = server.session.call("GET", path("ledger"), query={**query, "after": first.next_cursor}, expect=Page[Entry])
    assert [entry.data["run"] for entry in first.items + rest.items] == [run.id for run in runs]
    newest = server.session.call("GET", path("ledger"), query={"newest_first": True}, expect=Page[Entry])
    assert newest.items[0].subject == f"run:{runs[-1].id}"
    verdict = server.session.call("GET", path("ledger", "verify"), expect=Verdict)
    assert verdict.entries == newest.items[0].seq


def test_lineage_is_walked_both_ways(server: RunningServer) -> None:
    run = start_run(server, context={"inputs": ["dataset_version:flights@1"]})
    graph = server.session.call("GET", path("lineage"), query={"node": f"run:{run.id}"}, expect=Graph)
    assert [(edge.upstream, edge.relation) for edge in graph.edges] == [("dataset_version:flights@1", "trained_on")]
    with pytest.raises(InvalidInput, match="depth"):
        server.session.call("GET", path("lineage"), query={"node": "x", "depth": 99})


def events(server: RunningServer, last: str | None = None) -> Iterator[dict[str, str]]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    answer = urllib3.request("GET", server.url + path("live"), headers=headers, preload_content=False)
    event: dict[str, str] = {}
    pending = b""
    for chunk in answer.stream(1, decode_content=True):
        pending += chunk
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            name, _, value = line.decode().strip().partition(": ")
            if not line.strip() and "data" in event:
                yield event
                event = {}
            elif name in {"event", "id", "data"}:
                event[name] = value


def test_the_live_feed_tells_as_it_happens_and_resumes(server: RunningServer) -> None:
    seen: list[dict[str, str]] = []
    listening = threading.Event()

    def listen() -> None:
        for event in events(server, "0"):
            seen.append(event)
            listening.set()
            if len(seen) == 3:
                return

    start_run(server, name="before")
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(10)
    start_run(server, name="one")
    start_run(server, name="two")
    thread.join(10)
    names = [msgspec.json.decode(event["data"])["data"]["name"] for event in seen]
    assert names == ["before", "one", "two"]
    resumed = next(events(server, seen[1]["id"]))
    assert resumed["id"] == seen[2]["id"]


def test_blobs_are_what_their_digest_says(server: RunningServer) -> None:
    content = bytes(range(256)) * 10_000
    stored = msgspec.json.decode(server.session.upload("PUT", path("blobs"), content), type=StoredBlob)
    assert stored == StoredBlob(digest=digest(content), size_bytes=len(content))
    assert b"".join(server.session.download(path("blobs", stored.digest))) == content
    with pytest.raises(NotFound):
        server.session.send("GET", path("blobs", digest(b"other")))
    with pytest.raises(InvalidInput):
        server.session.send("GET", path("blobs", "..%2F..%2Fetc%2Fpasswd"))


def test_too_long_a_blob_is_refused_and_not_kept(server: RunningServer) -> None:
    server.context.settings = msgspec.structs.replace(server.context.settings, max_blob_bytes=1_000)
    with pytest.raises(Exception, match="longer than 1,000 bytes"):
        server.session.upload("PUT", path("blobs"), b"x" * 5_000)
    assert list(server.context.blobs.list()) == []
