"""The page about errors is held to the errors: every class with its status, and the example word for word."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import msgspec
import pytest

from salus.kernel.errors import InvalidInput, SalusError
from salus.testing.servers import RunningServer

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", SalusError.__subclasses__(), ids=lambda error: error.__name__)
def test_every_error_is_in_the_table(error: type[SalusError]) -> None:
    assert f"| `{error.__name__}` | {error.status} | `urn:salus:{error.code}` |" in PAGE


def test_the_example_is_what_the_server_answers(server: RunningServer) -> None:
    request, answer = re.findall(r"```http\n(.*?)```", PAGE, re.DOTALL)
    head, _, body = request.partition("\n\n")
    method, target = head.splitlines()[0].split()
    got = httpx.request(method, server.url + target, content=body, headers={"Content-Type": "application/json"})
    head, _, body = answer.partition("\n\n")
    assert f"HTTP/1.1 {got.status_code} {got.reason_phrase}" == head.splitlines()[0]
    assert f"Content-Type: {got.headers['content-type']}" == head.splitlines()[1]
    assert got.json() == msgspec.json.decode(body)


def test_the_python_example_raises_what_it_catches(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALUS_URL", server.url)
    monkeypatch.setenv("SALUS_HOME", str(server.settings.home_path / "client"))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    seen: list[object] = []
    exec(compile(code, "errors.md", "exec"), {"print": seen.append})
    assert "finite number" in str(seen[0])
    with pytest.raises(InvalidInput):
        exec(compile(code.replace("except InvalidInput", "except ZeroDivisionError"), "errors.md", "exec"), {})
