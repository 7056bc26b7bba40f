"""The user's project: a folder on the import path, its modules as fresh as its files."""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from salus.kernel.errors import InvalidInput, NotFound
from salus.pipelines.definition import PipelineFunction

_loaded_ns: dict[str, int] = {}


def enter(project: Path) -> None:
    """Puts the folder first on the import path.

    If the file of one of its modules changed since it was loaded, all modules of the folder are forgotten.
    """
    root = str(project)
    if root not in sys.path:
        sys.path.insert(0, root)
    ours = {name: file for name, module in sys.modules.items() if (file := _file_in(module, root))}
    if any(_loaded_ns.setdefault(name, _changed_ns(file)) != _changed_ns(file) for name, file in ours.items()):
        for name in ours:
            del sys.modules[name]
            _loaded_ns.pop(name, None)
        linecache.checkcache()
    importlib.invalidate_caches()


def _file_in(module: ModuleType, root: str) -> str | None:
    file = getattr(module, "__file__", None)
    inside = file is not None and file.startswith(root + os.sep) and "site-packages" not in file
    return file if inside else None


def _changed_ns(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return -1


def find(project: Path, name: str) -> Any:
    """What `module:qualified.name` is in the project. Raises `NotFound`."""
    module_name, _, path = name.partition(":")
    enter(project)
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as error:
        raise NotFound(
            f"{name} is not in the project: {error}",
            path="function",
            remedy="Start the worker with --project at the folder that the pipeline was deployed from.",
        ) from error
    enter(project)
    return found


def load_pipeline(project: Path, entrypoint: str) -> PipelineFunction:
    """The pipeline at `path.py:function`, where the path is in the folder `project`.

    Raises:
        InvalidInput: the address is not of that form, or names no pipeline.
        NotFound: there is no such file.
    """
    file, _, function = entrypoint.rpartition(":")
    path = (project / file).resolve()
    if not file.endswith(".py") or not function:
        raise InvalidInput(f"a pipeline's address is path.py:function, got {entrypoint!r}", path="entrypoint")
    if not path.is_file() or not path.is_relative_to(project.resolve()):
        raise NotFound(f"there is no file {file} in {project}", path="entrypoint")
    module = ".".join(path.relative_to(project.resolve()).with_suffix("").parts)
    found = find(project.resolve(), f"{module}:{function}")
    if not isinstance(found, PipelineFunction):
        raise InvalidInput(
            f"{entrypoint} is no pipeline", path="entrypoint", remedy="Mark the function with @salus.pipeline."
        )
    return found
