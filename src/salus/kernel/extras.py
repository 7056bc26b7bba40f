"""Optional dependencies: loaded when an address or a setting first needs them, never before.

This is the one place that imports by name; everywhere else imports stand at the top of the file.
"""

from __future__ import annotations

import importlib
from typing import Any

from salus.kernel.errors import MissingExtra

_DISTRIBUTION = "salus-mlops"


def load(target: str, *, extra: str | None = None) -> Any:
    """The attribute that `target` names as `module:attribute`.

    Args:
        target: for example `salus.backends.redis:open_redis`.
        extra: the extra that installs what the module needs; None when it needs nothing optional.

    Raises:
        MissingExtra: a module that `target` needs is not installed; the remedy is the command that installs
        it.

    >>> load("math:pi") > 3
    True
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").split(".")[0] == module.split(".")[0]:
            raise
        raise MissingExtra(
            f"{error.name} is not installed, and {module} needs it",
            remedy=f"Install it with: pip install '{_DISTRIBUTION}[{extra}]'",
            details={"extra": extra},
        ) from error
