"""`python -m benchmarks [NAME ...]`: runs the named benchmarks, or all of them, one after the other."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

NAMES = sorted(
    module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if not module.name.startswith("_")
)


def main() -> None:
    """Runs what was asked for."""
    asked = sys.argv[1:] or NAMES
    unknown = sorted(set(asked) - set(NAMES))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    for name in asked:
        importlib.import_module(f"benchmarks.{name}").main()


main()
