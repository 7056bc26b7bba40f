"""The docs are read: an undocumented setting, command or route fails, and so does a link to nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from salus.cli.main import _COMMANDS
from salus.kernel.settings import Settings
from salus.server.wiring import ROUTERS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("setting", Settings.__struct_fields__)
def test_every_setting_is_documented(setting: str) -> None:
    assert f"`SALUS_{setting.upper()}`" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_is_documented(command: str) -> None:
    assert f"`salus {command}" in (DOCS / "cli.md").read_text()


def test_every_route_says_what_it_does() -> None:
    for router in ROUTERS:
        for route in router.routes:
            for handler in getattr(route, "route_handlers", []):
                if handler.include_in_schema is not False and "permission" in handler.opt:
                    assert handler.summary, route.path
                    assert handler.fn.__doc__, route.path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
