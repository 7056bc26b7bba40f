"""Salus, the doctor of your models.

The map of the package:

    salus.run(...)          a tracked run            salus.step, salus.pipeline   durable pipelines
    salus.connect(...)      a client: .tracking .data .features .models .pipelines .endpoints .monitoring .retraining
    salus.predict(...)      ask an endpoint          salus.label(...)             tell it what came true
    salus.progress(...)     how far a step is        salus.Signature, salus.Schema, salus.Column

Everything is loaded when it is first used: `import salus` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salus.client import Client, connect, label, predict, run
    from salus.kernel.errors import SalusError
    from salus.kernel.schema import Column, Schema, Signature
    from salus.pipelines.definition import pipeline, step
    from salus.pipelines.progress import progress

_WHERE = {
    "Client": "salus.client",
    "Column": "salus.kernel.schema",
    "SalusError": "salus.kernel.errors",
    "Schema": "salus.kernel.schema",
    "Signature": "salus.kernel.schema",
    "connect": "salus.client",
    "label": "salus.client",
    "pipeline": "salus.pipelines.definition",
    "predict": "salus.client",
    "progress": "salus.pipelines.progress",
    "run": "salus.client",
    "step": "salus.pipelines.definition",
}

__all__ = [
    "Client",
    "Column",
    "SalusError",
    "Schema",
    "Signature",
    "connect",
    "label",
    "pipeline",
    "predict",
    "progress",
    "run",
    "step",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'salus' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
