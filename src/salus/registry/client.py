"""Models in the SDK: `client.models.register("flight-delay", files={"model.onnx": raw}, signature=…)`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from salus.data.model import Profile
from salus.data.profile import profile
from salus.data.tables import schema_of
from salus.data.validation import plain
from salus.kernel.errors import InvalidInput
from salus.kernel.extras import load
from salus.kernel.schema import Column, Schema, Signature, Task
from salus.registry.model import (
    ApprovalRule,
    Bump,
    CheckGates,
    Decide,
    Model,
    ModelVersion,
    MoveAlias,
    NewFile,
    NewGate,
    NewModelVersion,
    PutModel,
)
from salus.registry.signatures import outputs_of
from salus.sdk.blobs import BlobCache
from salus.sdk.frames import to_polars
from salus.sdk.session import Session, path
from salus.tracking.capture import current_pipeline_run
from salus.web.pagination import Page

_EXAMPLE_ROWS = 3
MAX_REFERENCE_ROWS = 50_000
_CHECK_ONNX = "salus.registry.onnx_check:check_onnx"
"""Loaded when it is needed: ONNX Runtime costs a fifth of a second to import."""


def infer_signature(frame: Any, outputs: Any = None, *, task: Task = "binary") -> Signature:
    """The signature of a model that was trained on the columns of `frame`.

    Args:
        frame: the inputs, any dataframe. A column may be missing in requests if it is missing here somewhere.
        outputs: a table of the model's outputs, a `Schema`, or their names (floats); None: what `task` names.

    >>> infer_signature({"temp": [1.0, None], "origin": ["EWR", "JFK"]}).inputs.columns[0]
    Column(name='temp', dtype='float', nullable=True)
    """
    table = to_polars(frame)
    inputs = _with_missing(table, schema_of(table))
    if isinstance(outputs, Schema):
        return Signature(inputs=inputs, outputs=outputs, task=task)
    if outputs is None or (isinstance(outputs, list | tuple) and all(isinstance(name, str) for name in outputs)):
        return Signature(inputs=inputs, outputs=outputs_of(task, outputs or ()), task=task)
    answered = to_polars(outputs)
    return Signature(inputs=inputs, outputs=_with_missing(answered, schema_of(answered)), task=task)


def _with_missing(table: pl.DataFrame, schema: Schema) -> Schema:
    return Schema(
        columns=tuple(
            Column(name=column.name, dtype=column.dtype, nullable=table[column.name].null_count() > 0)
            for column in schema.columns
        )
    )


class RegistryClient:
    """What a program can do with registered models."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._blobs = BlobCache(session)

    def get(self, name: str) -> Model:
        """A model. Raises `NotFound`."""
        return self._session.call("GET", path("models", name), expect=Model)

    def put(
        self,
        name: str,
        *,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        approval: ApprovalRule | None = None,
        required_gates: Sequence[str] | None = None,
    ) -> Model:
        """Declares a model; what is None stays as it is."""
        body = PutModel(
            description=description,
            tags=tags,
            approval=approval,
            required_gates=None if required_gates is None else tuple(required_gates),
        )
        return self._session.call("PUT", path("models", name), body=body, expect=Model)

    def register(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        signature: Signature,
        *,
        flavour: str = "onnx",
        run_id: str | None = None,
        pipeline_run: str | None = None,
        datasets: Sequence[str] = (),
        features: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        inputs: Any = None,
        outputs: Any = None,
        input_example: Sequence[dict[str, Any]] | None = None,
        reference: Any = None,
        bump: Bump = "auto",
        tags: dict[str, str] | None = None,
    ) -> ModelVersion:
        """A new version, as a candidate.

        Args:
            files: path within the model to bytes, or to a file to read.
            pipeline_run: the pipeline run that made it; inside a pipeline's step, its own run.
            datasets: dataset versions it was trained on, as `flights@1`.
            features: feature views that it is given.
            inputs, outputs: tables of what it saw and answered (on a hold-out): they become its profiles, the
                reference of its monitors, and the first rows of `inputs` its example.
            reference: at most 50,000 rows that show the model as it should be, what its monitors compare with:
                inputs and outputs by their names, and where known `label`, `event_time` (or `event_ms`) and a boolean
                `held_out` (rows it was not trained on: only those tell how good it is).

        Raises:
            InvalidInput: the signature, example, profile or a file is not as it must be; `path` names it.
        """
        table = None if inputs is None else to_polars(inputs).select(signature.inputs.names)
        example = input_example if input_example is not None else _example(table)
        body = NewModelVersion(
            flavour=flavour,
            files=tuple(self._upload(name_, content) for name_, content in files.items()),
            signature=signature,
            run_id=run_id,
            pipeline_run=pipeline_run or current_pipeline_run(),
            datasets=tuple(datasets),
            features=tuple(features),
            metrics=dict(metrics or {}),
            params=dict(params or {}),
            input_example=tuple(example),
            input_profile=None if table is None else profile(table),
            output_profile=_profile_of(outputs),
            reference=None if reference is None else self._blobs.put(_parquet(reference)),
            bump=bump,
            tags=tags or {},
        )
        url = path("models", name, "versions")
        return self._session.call("POST", url, body=body, expect=ModelVersion, once=True)

    def log_onnx(
        self, name: str, model: bytes, inputs: Any, *, task: Task = "binary", outputs: Any = None, **more: Any
    ) -> ModelVersion:
        """Registers an ONNX model with the signature that `inputs` suggest, after checking that it takes them.

        Further arguments as in `register` (`run_id`, `datasets`, `metrics`, …).

        Raises:
            InvalidInput: the bytes are no ONNX model, or its inputs are others than the columns of `inputs`.
        """
        names = list(outputs) if isinstance(outputs, list | tuple) else None
        signature = more.pop("signature", None) or infer_signature(inputs, names, task=task)
        load(_CHECK_ONNX)(model, signature)
        answered = None if names is not None else outputs
        return self.register(
            name, {"model.onnx": model}, signature, flavour="onnx", inputs=inputs, outputs=answered, **more
        )

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, the highest number first."""
        return self._session.call("GET", path("models", name, "versions"), expect=list[ModelVersion])

    def version(self, name: str, version: str | None = None) -> ModelVersion:
        """A version by number or alias; the highest where `version` is None."""
        if version is None:
            return self.versions(name)[0]
        return self._session.call("GET", path("models", name, "versions", version), expect=ModelVersion)

    def download(self, name: str, version: str) -> dict[str, Path]:
        """The files of a version by their paths, as local copies that were verified. Nothing is loaded."""
        return {file.path: self._blobs.fetch(file.digest) for file in self.version(name, version).files}

    def check_gates(self, name: str, version: str, gates: Sequence[NewGate]) -> ModelVersion:
        """Records what gates found; the model's policy then decides, unless a person has to."""
        url = path("models", name, "versions", version, "gates")
        return self._session.call("POST", url, body=CheckGates(gates=tuple(gates)), expect=ModelVersion)

    def decide(self, name: str, version: str, decision: Literal["approved", "rejected"], reason: str) -> ModelVersion:
        """Approves or rejects a version, with a reason."""
        url = path("models", name, "versions", version, "approval")
        body = Decide(decision=decision, reason=reason)
        return self._session.call("POST", url, body=body, expect=ModelVersion)

    def alias(self, name: str, alias: str, version: str) -> Model:
        """Lets `alias` (such as `champion`) name a version."""
        url = path("models", name, "aliases", alias)
        return self._session.call("PUT", url, body=MoveAlias(version=version), expect=Model)

    def list(self, limit: int = 100) -> list[Model]:
        """Models by name."""
        return self._session.call("GET", path("models"), query={"limit": limit}, expect=Page[Model]).items

    def _upload(self, name: str, content: bytes | Path) -> NewFile:
        raw = content.read_bytes() if isinstance(content, Path) else content
        return NewFile(path=name, digest=self._blobs.put(raw), size_bytes=len(raw))


def _example(table: pl.DataFrame | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    times = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.Datetime | pl.Date)]
    rows = table.head(_EXAMPLE_ROWS).with_columns(
        pl.col(name).cast(pl.Datetime("ms")).dt.timestamp("ms") for name in times
    )
    return [plain(row) for row in rows.to_dicts()]


def _profile_of(table: Any) -> Profile | None:
    return None if table is None else profile(to_polars(table))


def _parquet(table: Any) -> bytes:
    rows = to_polars(table)
    if rows.height > MAX_REFERENCE_ROWS:
        raise InvalidInput(
            f"a reference has at most {MAX_REFERENCE_ROWS:,} rows, got {rows.height:,}",
            path="reference",
            remedy="Thin it: every k-th row in the order of time.",
        )
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    return buffer.getvalue()
