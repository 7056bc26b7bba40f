"""Every example in the docstrings of salus.stats runs, and its inner modules import nothing heavy."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

from salus import stats

MODULES = [found.name for found in pkgutil.walk_packages(stats.__path__, "salus.stats.") if not found.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_no_module_imports_the_heavy_half_of_scipy_or_a_table_engine() -> None:
    code = f"import sys, {', '.join(MODULES)}; print({{'scipy.stats', 'polars', 'pandas'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"
