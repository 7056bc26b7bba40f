"""Every command and option that a page names is there, and the page about the command line names every command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from salus.cli.main import _COMMANDS, _load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_CODE = re.compile(r"^```\w*[^\n]*\n(.*?)^```$|`(salus [^`]+)`|^    (salus .*)$", re.DOTALL | re.MULTILINE)


def verbs(name: str) -> dict[str, Any]:
    """The commands of a group by name; a single command under the empty name."""
    command: Any = _load(name)
    return dict(getattr(command, "commands", None) or {"": command})


def said(page: Path) -> list[list[str]]:
    """What a page says after `salus`, word by word."""
    code = "\n".join(next(filter(None, found)) for found in _CODE.findall(page.read_text(encoding="utf-8")))
    lines = re.findall(r"(?:^|\$\(|&& |=\S+ )salus ([a-z][^\n|#]*)", code, re.MULTILINE)
    return [line.split() for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_are_there(page: Path) -> None:
    for words in said(page):
        text = f"{page.name}: salus {' '.join(words)}"
        group = words[0].rstrip(")\",'")
        assert group in _COMMANDS, text
        known = verbs(group)
        if "" not in known and len(words) > 1:
            assert words[1] in known, text
        command = known.get("") or (known.get(words[1]) if len(words) > 1 else None)
        if command is not None:
            options = {option for parameter in command.params for option in parameter.opts}
            for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(words)):
                assert option in options | {"--help"}, text


@pytest.mark.parametrize("group", list(_COMMANDS))
def test_the_page_about_the_command_line_names_every_verb(group: str) -> None:
    (row,) = re.findall(rf"^\| `salus {group}\b.*$", (DOCS / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"`([a-z]+)`|`salus [a-z]+ ([a-z]+)", row.split(" | ")[0]))
    for verb in filter(None, verbs(group)):
        assert any(verb in pair for pair in named), f"salus {group} {verb}"
