"""What control plane and data plane say to each other: the route table down, the predictions up.

Both sides may be of neighbouring releases: fields are only ever added, with defaults.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from salus.kernel.schema import Signature, Task
from salus.kernel.structs import Record


class ModelFile(Record):
    """One file of a model: `path` is relative to the model's folder, `digest` names the blob."""

    path: str
    digest: str
    size_bytes: int


class RevisionRoute(Record):
    """A model version as an endpoint serves it."""

    revision: str
    model: str
    version: str
    format: Literal["onnx"]
    files: tuple[ModelFile, ...]
    signature: Signature


class Weight(Record):
    """The share of live requests that a revision answers, 0 to 1."""

    revision: str
    share: float


class FeatureLookup(Record):
    """Features that the data plane adds to a request by entity key.

    `keys` are the request's columns that hold the entity's key, in the order of the view's keys;
    `features` are the names that the model gets. A value older than `ttl_s` at the request's event time is missing.
    """

    view: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    ttl_s: float | None = None


class EndpointRoute(Record):
    """How requests to one endpoint are answered.

    `split` shares the live requests (the shares sum to 1); `shadows` answer every request too, unseen.
    `key_column` is the column whose value keeps a request on one side of the split when the request has no key.
    """

    endpoint: str
    workspace: str
    task: Task
    split: tuple[Weight, ...]
    shadows: tuple[str, ...] = ()
    salt: str = ""
    key_column: str | None = None
    lookups: tuple[FeatureLookup, ...] = ()


class RouteTable(Record):
    """All that a data plane needs to answer. `epoch` grows with every change."""

    epoch: int
    endpoints: tuple[EndpointRoute, ...] = ()
    revisions: tuple[RevisionRoute, ...] = ()


Role = Literal["live", "shadow"]

LAST_MS = 253_402_300_799_999
"""The end of the year 9999: no event is later."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Moment = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What one revision said to one row: `output` by output column, or `error`."""

    revision: str
    role: Role
    output: dict[str, Any] | None
    error: str | None
    latency_us: _Count


class PredictionRecord(msgspec.Struct, frozen=True, array_like=True):
    """One row that was asked about, with every answer; the live one comes first.

    `seq` counts the rows of one plane from 1 without a gap; `id` is `<plane>-<seq>`.
    `inputs` are what the model saw: the request's columns and the features that were added.
    """

    seq: _Count
    endpoint: str
    event_ms: _Moment
    at_ms: _Moment
    key: str
    inputs: dict[str, Any]
    answers: tuple[Answer, ...]


class PredictionBatch(msgspec.Struct, frozen=True):
    """A stretch of one plane's spool. The same stretch may come twice: (`plane`, `first_seq`) names it."""

    plane: str
    first_seq: _Count
    last_seq: _Count
    records: tuple[PredictionRecord, ...]


def prediction_id(plane: str, seq: int) -> str:
    """The id of a plane's row.

    >>> prediction_id("pln_01k9", 255)
    'pln_01k9-ff'
    """
    return f"{plane}-{seq:x}"


def parse_prediction_id(value: str) -> tuple[str, int] | None:
    """Plane and sequence number of an id, or None when it is not one.

    >>> parse_prediction_id("pln_01k9-ff")
    ('pln_01k9', 255)
    """
    plane, dash, seq = value.rpartition("-")
    if not dash or not plane or not seq:
        return None
    try:
        number = int(seq, 16)
    except ValueError:
        return None
    return (plane, number) if 0 < number < 2**63 and f"{number:x}" == seq else None
