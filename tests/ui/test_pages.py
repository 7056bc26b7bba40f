"""Every page, light and dark, wide and narrow: something to see, nothing broken, nothing out of reach."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Response

if TYPE_CHECKING:
    from salus.testing.servers import RunningServer

pytestmark = pytest.mark.service

FIRST_LOAD_LIMIT_BYTES = 80_000
RESIZED_MS = 150
KINDS = (
    "ward",
    "alerts",
    "alert",
    "models",
    "model",
    "versions",
    "version",
    "runs",
    "run",
    "pipelines",
    "pipeline",
    "pipeline run",
    "retrainings",
    "retraining",
    "declined",
    "endpoints",
    "endpoint",
    "rollout",
    "datasets",
    "dataset",
    "dataset version",
    "feature view",
    "ledger",
)


def test_every_kind_of_page_is_tested(pages: dict[str, str]) -> None:
    assert set(KINDS) == set(pages)


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_sound(kind: str, pages: dict[str, str], reader: Callable[..., Any]) -> None:
    """Light, dark, and on a telephone: nothing broken, nothing that axe finds, nothing out of reach."""
    who = reader()
    page = who.open(pages[kind])
    assert page.title().endswith("Salus")
    assert page.locator("[role=alert]").all_inner_texts() == []
    assert who.violations() == []
    page.emulate_media(color_scheme="dark")
    assert who.violations() == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(RESIZED_MS)
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0
    assert who.violations() == []
    assert who.complaints == []


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ("/", "salus demo"),
        ("/runs", "salus.run("),
        ("/models", "register("),
        ("/endpoints", "salus endpoints deploy"),
        ("/pipelines", "salus pipelines deploy"),
        ("/retraining", "salus policies put"),
        ("/datasets", "commit("),
    ],
)
def test_an_empty_page_says_what_to_do(
    where: str, command: str, empty_ward: RunningServer, reader: Callable[..., Any]
) -> None:
    who = reader(server=empty_ward)
    page = who.open(where)
    assert command in page.locator("main pre").first.inner_text()
    assert who.violations() == []


def test_the_first_load_is_small(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    who = reader()
    fetched: list[Response] = []
    who.page.on("response", lambda response: fetched.append(response) if "/api/" not in response.url else None)
    who.open(pages["ward"])
    sizes = {response.url: len(gzip.compress(response.body(), 9)) for response in fetched}
    assert any(url.endswith(".js") for url in sizes)
    assert sum(sizes.values()) <= FIRST_LOAD_LIMIT_BYTES, sizes
