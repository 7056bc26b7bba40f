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
KINDS = (
    "ward",
    "alerts",
    "models",
    "model",
    "versions",
    "version",
    "runs",
    "run",
    "pipelines",
    "pipeline",
    "pipeline run",
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(kind: str, theme: str, pages: dict[str, str], reader: Callable[..., Any]) -> None:
    who = reader(theme=theme)
    page = who.open(pages[kind])
    assert page.locator("[role=alert]").all_inner_texts() == []
    assert who.violations() == []
    assert who.complaints == []
    assert page.title().endswith("Salus")


@pytest.mark.parametrize("kind", KINDS)
def test_a_telephone_shows_all_of_it(kind: str, pages: dict[str, str], reader: Callable[..., Any]) -> None:
    who = reader(width=390)
    page = who.open(pages[kind])
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0
    assert who.violations() == []


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ("/", "salus demo"),
        ("/runs", "salus.run("),
        ("/models", "register("),
        ("/endpoints", "salus endpoints deploy"),
        ("/pipelines", "salus pipelines deploy"),
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
