"""The public face: what it promises is there, it is loaded lazily, and `import salus` costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import salus

HEAVY = ("alembic", "litestar", "numpy", "onnxruntime", "polars", "rich", "scipy", "sklearn", "sqlalchemy", "urllib3")


def imported_by(code: str) -> set[str]:
    """The names of all modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_everything_promised_is_there() -> None:
    for name in salus.__all__:
        assert getattr(salus, name) is not None, name
    assert dir(salus) == sorted(salus.__all__) == salus.__all__


def test_what_is_not_promised_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        salus.nope  # noqa: B018


def test_importing_salus_loads_nothing_heavy() -> None:
    assert not imported_by("import salus") & set(HEAVY)


def test_the_help_of_the_command_line_loads_no_engine() -> None:
    loaded = imported_by("import salus.cli.main")
    assert not loaded & (set(HEAVY) - {"rich"})
