"""Kills, absences and full disks: what was answered is delivered once, and serving goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from salus.kernel.content import digest

Start = Callable[..., Any]


class Storm:
    """Clients that ask without a pause and note every id they were given."""

    def __init__(self, plane: Any, row: dict[str, Any], clients: int = 8) -> None:
        self.ids: list[str] = []
        self.refused: list[tuple[int, str]] = []
        self.broken = 0
        self._ending = threading.Event()
        self._body = json.dumps({"rows": [row, row]}).encode()
        self._threads = [threading.Thread(target=self._ask, args=(plane.port,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            while not self._ending.is_set():
                try:
                    connection.request("POST", "/predict/late", self._body)
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):
                    self.broken += 1
                    return
                if answer.status == 200:
                    self.ids += [p["id"] for p in json.loads(content)["predictions"]]
                else:
                    self.refused.append((answer.status, content.decode()))

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()


def test_kill_9_in_a_storm_loses_nothing_and_doubles_nothing(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    acknowledged: list[str] = []
    for _ in range(3):
        plane = start_plane().ready(1)
        storm = Storm(plane, row)
        plane.until(lambda storm=storm: len(storm.ids) > 1_500)
        plane.kill()
        storm.end()
        assert storm.broken
        assert not storm.refused
        acknowledged += storm.ids
    assert len(set(acknowledged)) == len(acknowledged), "an id was given twice"
    last = start_plane().ready(1)
    last.until(lambda: set(acknowledged) <= set(control.records))
    assert len({name.rpartition("-")[0] for name in acknowledged}) == 3
    last.until(lambda: len(list((last.home / "serve/spool").glob("pln_*"))) <= 1)
    assert last.stop() == 0


def test_without_the_control_plane_it_serves_and_spools_also_after_a_restart(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    plane.predict([row])
    plane.until(lambda: (plane.home / "serve/routes.msgpack").exists())
    port = control.port
    control.stop()
    ids = [plane.predict([row])[0]["id"] for _ in range(5)]
    assert plane.stop() == 0

    again = start_plane().ready(1)
    ids += [again.predict([row])[0]["id"] for _ in range(5)]
    problems = again.until(lambda: again.call("GET", "/readyz")[2]["problems"])
    assert any("cannot be reached" in text or str(port) in text for text in problems)
    again.kill()

    control.start()
    third = start_plane(SALUS_URL=control.url).ready(1)
    third.until(lambda: set(ids) <= set(control.records))


def test_routes_change_under_load_and_no_request_is_lost(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    revisions = [control.revision(f"rev_{index}", model) for index, model in enumerate(onnx_models)]
    control.route(revisions[:1], {"rev_0": 1.0})
    plane = start_plane().ready(1)
    storm = Storm(plane, row, clients=4)
    epoch = 1
    for shares in ({"rev_0": 0.5, "rev_1": 0.5}, {"rev_1": 1.0}, {"rev_0": 1.0}, {"rev_1": 1.0}):
        control.route([r for r in revisions if r.revision in shares], shares)
        epoch += 1
        plane.ready(epoch)
        seen = len(storm.ids)
        plane.until(lambda seen=seen: len(storm.ids) > seen + 100)
    storm.end()
    assert (storm.broken, storm.refused) == (0, [])
    plane.until(lambda: set(storm.ids) <= set(control.records))
    assert len(control.records) == len(storm.ids)
    answered = {record.answers[0].revision for record in control.records.values()}
    assert answered == {"rev_0", "rev_1"}
    files = list((plane.home / "serve/models").iterdir())
    assert [f.name for f in files] == [revisions[1].files[0].digest.removeprefix("blake3:")]


def test_a_corrupt_model_is_refused_and_the_old_routes_go_on(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    first, second = (control.revision(f"rev_{i}", model) for i, model in enumerate(onnx_models))
    control.route([first], {"rev_0": 1.0})
    plane = start_plane().ready(1)
    control.blobs[second.files[0].digest] = onnx_models[1][:-1] + b"\x00"
    control.route([second], {"rev_1": 1.0})
    reports = plane.until(lambda: [r for r in control.reports if r["problems"]])
    assert any("epoch 2 are refused" in text and "digest" in text for text in reports[-1]["problems"])
    assert reports[-1]["epoch"] == 1
    assert plane.predict([row])[0]["revision"] == "rev_0"
    control.blobs[second.files[0].digest] = onnx_models[1]
    plane.ready(2)
    assert plane.predict([row])[0]["revision"] == "rev_1"
    plane.until(lambda: control.reports[-1]["problems"] == [])


def test_a_damaged_model_file_is_fetched_again_and_damaged_routes_are_no_obstacle(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    routes: Path = plane.home / "serve/routes.msgpack"
    plane.until(routes.exists)
    plane.kill()
    (file,) = (plane.home / "serve/models").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    routes.write_bytes(routes.read_bytes()[:-7])
    again = start_plane().ready(1)
    assert again.predict([row])
    assert digest(file.read_bytes()).endswith(file.name)
    again.until(lambda: msgspec.msgpack.decode(routes.read_bytes())["epoch"] == 1)


def test_two_planes_never_share_a_folder(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: dict[str, Any]
) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    first = start_plane().ready(1)
    second = start_plane()
    assert second.process.wait(20) == 1
    assert "another data plane" in second.log.read_text()
    assert first.predict([row])


def test_a_taken_port_is_said_in_one_line(start_plane: Start, control: Any) -> None:
    plane = start_plane(SALUS_SERVE_PORT=str(control.port))
    assert plane.process.wait(20) == 1
    (line,) = plane.log.read_text().splitlines()
    assert line.startswith(f"salus: cannot listen on 127.0.0.1:{control.port}")
