"""What an endpoint is: a name that answers predictions, and the revisions of models that answer behind it."""

from __future__ import annotations

import re
from typing import Literal

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Signature, Task
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Short, Value
from salus.serving.wire import FeatureLookup, ModelFile, RevisionRoute

LONGEST_S = 100 * 365 * 86_400.0
"""The longest delay or time to live, in seconds: a hundred years."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

OUTPUT_OF_TASK: dict[Task, str] = {"binary": "probability", "regression": "value"}


class PutEndpoint(Value):
    """How an endpoint is to be. `task` is taken from the first model when it is not given.

    `key_column` keeps requests with the same value on the same side of a split; `lookups` are features that
    the data plane adds; `label_delay_s` is how long after a prediction its label is normally there.
    """

    task: Task | None = None
    key_column: Short | None = None
    lookups: tuple[FeatureLookup, ...] = ()
    label_delay_s: float = 0.0
    description: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.label_delay_s <= LONGEST_S:
            raise InvalidInput(
                f"a label delay lies between 0 and {LONGEST_S:g} seconds, got {self.label_delay_s}",
                path="$.label_delay_s",
            )
        for index, lookup in enumerate(self.lookups):
            if lookup.ttl_s is not None and not 0 < lookup.ttl_s <= LONGEST_S:
                raise InvalidInput(
                    f"a time to live lies between 0 and {LONGEST_S:g} seconds, got {lookup.ttl_s}",
                    path=f"$.lookups[{index}].ttl_s",
                )


class Endpoint(Record):
    """A name that answers predictions. `live`, `previous` and `shadows` name revisions."""

    workspace: str
    name: str
    task: Task | None
    key_column: str | None
    lookups: tuple[FeatureLookup, ...]
    label_delay_s: float
    description: str
    salt: str
    live: str | None
    previous: str | None
    shadows: tuple[str, ...]
    created_ms: int
    updated_ms: int

    @property
    def subject(self) -> str:
        """The endpoint's name in ledger and lineage."""
        return f"endpoint:{self.name}"


class Revision(Record):
    """A model version as one endpoint serves it; the same version deployed again is the same revision."""

    id: str
    workspace: str
    endpoint: str
    model: str
    version: str
    format: Literal["onnx"]
    files: tuple[ModelFile, ...]
    signature: Signature
    created_ms: int
    created_by: str

    def route(self) -> RevisionRoute:
        """As the data plane gets it."""
        return RevisionRoute(
            revision=self.id,
            model=self.model,
            version=self.version,
            format=self.format,
            files=self.files,
            signature=self.signature,
        )


class PutShadows(Value):
    """The versions that answer every request unseen, as `model@version`."""

    versions: tuple[str, ...]


class EndpointChanged(Event):
    """An endpoint was made or described anew."""

    name: str
    task: Task | None
    key_column: str | None
    label_delay_s: float


class ShadowsChanged(Event):
    """Other versions now answer unseen."""

    endpoint: str
    revisions: tuple[str, ...]
    versions: tuple[str, ...]


def check_name(name: str, path: str) -> str:
    """`name`, if it may stand in a URL and a table's name. Raises `InvalidInput`.

    >>> check_name("flight-delay", "$.name")
    'flight-delay'
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"a name has letters, digits, '.', '_' and '-', starts with a letter or digit, got {name[:80]!r}",
            path=path,
        )
    return name


def check_signature(
    champion: Signature | None,
    challenger: Signature,
    lookups: tuple[FeatureLookup, ...],
    *,
    path: str = "$.version",
) -> None:
    """Refuses a challenger that cannot answer the requests that come in now.

    Raises:
        InvalidInput: another task; no output that the task asks for; an input that requests lack or give as
            another type.
    """
    output = OUTPUT_OF_TASK.get(challenger.task)
    if output is not None and challenger.outputs.get(output) is None:
        raise InvalidInput(
            f"a {challenger.task} model has the output {output!r}, this one has {list(challenger.outputs.names)}",
            path=path,
            remedy="Register the model again with that output in its signature.",
        )
    if champion is None:
        return
    if champion.task != challenger.task:
        raise InvalidInput(f"the endpoint's task is {champion.task}, the version's is {challenger.task}", path=path)
    added = {feature for lookup in lookups for feature in lookup.features}
    for column in challenger.inputs.columns:
        there = champion.inputs.get(column.name)
        if there is None and not column.nullable and column.name not in added:
            raise InvalidInput(
                f"the version needs the input {column.name!r}, which requests to this endpoint do not carry",
                path=path,
                remedy="Make the column nullable, add a feature lookup for it, or deploy to a new endpoint.",
            )
        if there is not None and there.dtype != column.dtype and (there.dtype, column.dtype) != ("int", "float"):
            raise InvalidInput(
                f"the input {column.name!r} comes as {there.dtype}, the version takes {column.dtype}",
                path=path,
                remedy="Deploy to a new endpoint, whose callers send the new type.",
            )


def check_types(earlier: Signature, signature: Signature, *, path: str) -> None:
    """Refuses columns of another type than an earlier revision gave them: one endpoint's predictions are one table.

    Raises:
        InvalidInput: a column changed its type in another way than between int and float.
    """
    for side in ("inputs", "outputs"):
        before, now = getattr(earlier, side), getattr(signature, side)
        for column in now.columns:
            known = before.get(column.name)
            if known is not None and known.dtype != column.dtype and {known.dtype, column.dtype} != {"int", "float"}:
                raise InvalidInput(
                    f"{side[:-1]} {column.name!r} was {known.dtype} at this endpoint, the version has {column.dtype}",
                    path=path,
                    remedy="Name the column otherwise, or deploy to a new endpoint.",
                )
