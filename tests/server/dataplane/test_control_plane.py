"""The data plane with the true control plane: routes down, features down, predictions up, labels found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from salus.sdk.session import path
from salus.serving.client import EndpointsClient
from salus.serving.model.labels import Label
from salus.serving.model.predictions import Plane as KnownPlane
from salus.testing.servers import running_server, settings_in

MARCH_MS = 1_362_100_000_000


def register(session: Any, content: bytes, signature: Any) -> None:
    """The model `late` 1.0.0 in the registry."""
    stored = msgspec.json.decode(session.send("PUT", path("blobs"), content=content))
    session.call("PUT", path("models", "late"), body={"description": "will it be late"})
    body = {
        "flavour": "onnx",
        "files": [{"path": "model.onnx", **stored}],
        "signature": msgspec.to_builtins(signature),
        "metrics": {"auc": 0.7},
    }
    session.call("POST", path("models", "late", "versions"), body=body, once=True)


def test_from_registry_to_outcomes(
    tmp_path: Path, start_plane: Callable[..., Any], onnx_models: list[bytes], row: Any, signature: Any
) -> None:
    with running_server(settings_in(tmp_path / "server")) as server:
        plane = start_plane(SALUS_URL=server.url).ready()
        session, client = server.session, EndpointsClient(server.session)
        register(session, onnx_models[0], signature)
        view = {
            "entity": "airport",
            "keys": ["origin"],
            "event_time": "at",
            "features": [{"name": "temp", "dtype": "float"}],
        }
        session.call("PUT", path("features", "views", "weather"), body=view)
        rows = pl.DataFrame(
            {"origin": ["EWR"], "at": pl.Series([MARCH_MS]).cast(pl.Datetime("ms", "UTC")), "temp": [39.5]}
        )
        pushed = session.send(
            "POST", path("features", "views", "weather", "rows"), content=rows.write_ipc(None).getvalue()
        )
        assert msgspec.json.decode(pushed)["rows"] == 1
        lookups = [{"view": "weather", "keys": ["origin"], "features": ["temp"]}]
        session.call("PUT", path("endpoints", "late"), body={"task": "binary", "lookups": lookups})
        body = {"model": "late", "version": "1.0.0", "override": True, "reason": "a test"}
        session.call("POST", path("endpoints", "late", "rollouts"), body=body, once=True)

        plane.until(lambda: plane.call("GET", "/endpoints/late")[0] == 200)
        plane.until(lambda: "salus_online_cursor 1" in plane.call("GET", "/metrics")[2])
        asked = {name: value for name, value in row.items() if name != "temp"}
        answers = [plane.predict([asked], keys=[f"k{i}"], event_ms=[MARCH_MS + i])[0] for i in range(50)]
        labels = [Label(prediction_id=a["id"], value=i % 2, event_ms=MARCH_MS) for i, a in enumerate(answers)]

        def stored() -> int:
            return client.completeness("late", from_ms=MARCH_MS, to_ms=MARCH_MS + 50).predictions

        plane.until(lambda: stored() == 50)
        client.label("late", labels)
        table = client.outcomes("late", from_ms=MARCH_MS, to_ms=MARCH_MS + 50)
        assert sorted(table["prediction_id"]) == sorted(answer["id"] for answer in answers)
        assert table["in.temp"].to_list() == [39.5] * 50
        assert table["label"].null_count() == 0
        assert set(table["out.probability"]) == {answer["outputs"]["probability"] for answer in answers}
        (known,) = session.call("GET", path("serving", "planes"), expect=list[KnownPlane])
        assert known.plane == answers[0]["id"].rpartition("-")[0]
        assert known.through_seq == 50
        assert known.problems == ()
        assert plane.stop() == 0
