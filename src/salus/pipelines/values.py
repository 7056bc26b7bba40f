"""Values between steps: how each kind of value becomes bytes, and a value again.

The first codec that takes a value writes it. What no plain format takes is pickled and marked `executable`:
to read it is to run code, so it is read only where the project's own code runs anyway (a worker's child
process).
"""

from __future__ import annotations

import importlib
import io
import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from salus.kernel.content import digest
from salus.kernel.errors import Corrupt, Denied
from salus.pipelines.graph import OutputRef


class Codec(NamedTuple):
    """A way to write values. `decode` gets the bytes and the type's name that `type_name` gave."""

    name: str
    takes: Callable[[Any], bool]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, str], Any]
    executable: bool = False


def _parquet(frame: pl.DataFrame | pl.LazyFrame) -> bytes:
    buffer = io.BytesIO()
    collected = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    collected.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _is_plain(value: Any) -> bool:
    """Whether JSON gives back just this value: no tuple, no NaN, no number as a key."""
    match value:
        case None | bool() | str():
            return type(value) in (type(None), bool, str)
        case int():
            return type(value) is int and -(2**63) <= value < 2**63
        case float():
            return type(value) is float and math.isfinite(value)
        case list():
            return type(value) is list and all(map(_is_plain, value))
        case dict():
            return type(value) is dict and all(type(key) is str and _is_plain(item) for key, item in value.items())
    return False


def _is_struct(value: Any) -> bool:
    if not isinstance(value, msgspec.Struct) or "<locals>" in type(value).__qualname__:
        return False
    try:
        return bool(msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value)
    except (TypeError, msgspec.MsgspecError):
        return False


def _struct(content: bytes, type_name: str) -> Any:
    module, _, name = type_name.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return msgspec.json.decode(content, type=found)


_CODECS: list[Codec] = [
    Codec("bytes", lambda value: type(value) is bytes, lambda value: value, lambda content, _: content),
    Codec("json", _is_plain, msgspec.json.encode, lambda content, _: msgspec.json.decode(content)),
    Codec(
        "parquet",
        lambda value: isinstance(value, pl.DataFrame | pl.LazyFrame),
        _parquet,
        lambda content, _: pl.read_parquet(io.BytesIO(content)),
    ),
    Codec(
        "npy",
        lambda value: type(value) is np.ndarray and not value.dtype.hasobject,
        _npy,
        lambda content, _: np.load(io.BytesIO(content), allow_pickle=False),
    ),
    Codec("struct", _is_struct, msgspec.json.encode, _struct, executable=True),
    Codec(
        "pickle",
        lambda _: True,
        lambda value: pickle.dumps(value, protocol=5),
        lambda content, _: pickle.loads(content),
        executable=True,
    ),
]


def register_codec(codec: Codec) -> None:
    """Puts a codec before all others; workers must have it too."""
    _CODECS.insert(0, codec)


def encode(value: Any) -> tuple[OutputRef, bytes]:
    """A value as bytes, and what is to be known to read them."""
    codec = next(codec for codec in _CODECS if codec.takes(value))
    content = codec.encode(value)
    kind = type(value)
    ref = OutputRef(
        digest=digest(content),
        codec=codec.name,
        size_bytes=len(content),
        type=f"{kind.__module__}:{kind.__qualname__}",
        executable=codec.executable,
    )
    return ref, content


def decode(ref: OutputRef, content: bytes, *, run_code: bool = False) -> Any:
    """The value again.

    Raises:
        Denied: reading it would run code, and `run_code` is False.
        Corrupt: no such codec is known, or the bytes are not what it writes.
    """
    codec = next((codec for codec in _CODECS if codec.name == ref.codec), None)
    if codec is None:
        raise Corrupt(f"the output {ref.digest} is written as {ref.codec!r}, which is not known here")
    if codec.executable and not run_code:
        raise Denied(
            f"the output {ref.digest} is a {ref.codec} of {ref.type}: reading it runs code",
            remedy="Read it only if you trust the run that wrote it: run_code=True.",
        )
    try:
        return codec.decode(content, ref.type)
    except (ValueError, EOFError, pl.exceptions.PolarsError, pickle.UnpicklingError, msgspec.MsgspecError) as error:
        raise Corrupt(f"the output {ref.digest} cannot be read as {ref.codec}: {error}") from error
