"""What a step's code is: the digest of its source and of what it is made with.

Covered are the step's own source, the functions, classes and plain constants of its module that it names
(and what those name), and what it declares as `code_deps`. Decorators are not: to change `retries` changes
no result.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from salus.kernel.errors import InvalidInput

_PLAIN = (int, float, str, bytes, bool, type(None))


def code_digest(function: Callable[..., Any], code_deps: Iterable[Any] = ()) -> str:
    """The digest, as `sha256:<hex>`; the same source gives the same digest in every process.

    Raises:
        InvalidInput: the source of something cannot be read (it was typed into a prompt, or is built in).
    """
    parts: dict[str, str] = {}
    for thing in (function, *code_deps):
        _add(thing, parts)
    text = "\n".join(f"{name}\n{source}" for name, source in sorted(parts.items()))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _add(thing: Any, parts: dict[str, str]) -> None:
    thing = inspect.unwrap(getattr(thing, "function", thing))
    name = _name(thing)
    if name in parts:
        return
    parts[name] = _source(thing, name)
    if isinstance(thing, FunctionType):
        _add_named(thing, thing, parts)
    elif isinstance(thing, type):
        for member in vars(thing).values():
            if isinstance(member, FunctionType):
                _add_named(member, thing, parts)


def _add_named(function: FunctionType, owner: Any, parts: dict[str, str]) -> None:
    for word in _words(function.__code__):
        if word not in function.__globals__:
            continue
        named = inspect.unwrap(getattr(function.__globals__[word], "function", function.__globals__[word]))
        if isinstance(named, _PLAIN) or (isinstance(named, tuple) and all(isinstance(x, _PLAIN) for x in named)):
            parts[f"{function.__module__}.{word}"] = repr(named)
        elif isinstance(named, FunctionType | type) and named.__module__ == owner.__module__:
            _add(named, parts)


def _words(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _words(constant)


def _name(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', repr(thing))}"


def _source(thing: Any, name: str) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError) as error:
        raise InvalidInput(
            f"the source of {name} cannot be read",
            path="code_deps",
            remedy="Steps, and what they declare to depend on, live in files of the project.",
        ) from error
    if isinstance(thing, ModuleType):
        return source
    lines = source.splitlines()
    definition = ast.parse(source).body[0]
    return "\n".join(line.rstrip() for line in lines[definition.lineno - 1 :])
