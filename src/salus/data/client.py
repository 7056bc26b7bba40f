"""Datasets in the SDK: `client.data.commit("flights", frame)`, `client.data.read("flights")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from salus.data.expectations import Expectation
from salus.data.inference import infer_expectations
from salus.data.model import (
    Dataset,
    DatasetDetail,
    DatasetVersion,
    FileRef,
    Mode,
    NewVersion,
    PutDataset,
    ValidationReport,
    check_name,
)
from salus.data.tables import align, schema_of, write_parquet
from salus.kernel.schema import Schema
from salus.sdk.blobs import BlobCache
from salus.sdk.frames import to_polars
from salus.sdk.session import Session, path
from salus.web.pagination import Page

_COMMIT_TIMEOUT_S = 600.0


class DataClient:
    """What a program can do with datasets. Tables may be any dataframe that Narwhals knows."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._blobs = BlobCache(session)

    def get(self, name: str) -> DatasetDetail:
        """A dataset with its versions. Raises `NotFound`."""
        return self._session.call("GET", path("datasets", name), expect=DatasetDetail)

    def put(
        self,
        name: str,
        *,
        description: str | None = None,
        schema: Schema | None = None,
        expectations: Sequence[Expectation] | None = None,
        event_time: str | None = None,
    ) -> Dataset:
        """Declares what binds the rows; what is None stays as it is."""
        body = PutDataset(
            description=description,
            schema=schema,
            expectations=None if expectations is None else tuple(expectations),
            event_time=event_time,
        )
        return self._session.call("PUT", path("datasets", name), body=body, expect=Dataset)

    def commit(
        self,
        name: str,
        frame: Any,
        *,
        message: str = "",
        mode: Mode = "append",
        description: str | None = None,
        schema: Schema | None = None,
        expectations: Sequence[Expectation] | Literal["infer"] | None = None,
        event_time: str | None = None,
    ) -> DatasetVersion:
        """A new version with the rows of `frame`, or nothing at all.

        Args:
            mode: `append` to the rows before, or `replace` them.
            expectations: bind this batch and all following ones; `"infer"` takes what `frame` itself suggests,
                with margins (`infer`). None leaves the dataset's own.

        Raises:
            InvalidInput: the rows break a law of the dataset; `details` is the `ValidationReport`.
        """
        check_name(name, "name")
        table = to_polars(frame)
        laws = infer_expectations(table) if expectations == "infer" else expectations
        if schema is None and laws is not None and not self._has_schema(name):
            schema = schema_of(table)
        if any(declared is not None for declared in (description, schema, laws, event_time)):
            self.put(name, description=description, schema=schema, expectations=laws, event_time=event_time)
        body = self._uploaded(table, message, mode)
        return self._session.call(
            "POST",
            path("datasets", name, "versions"),
            body=body,
            expect=DatasetVersion,
            once=True,
            timeout_s=_COMMIT_TIMEOUT_S,
        )

    def validate(self, name: str, frame: Any) -> ValidationReport:
        """What a commit of `frame` would say; nothing is written."""
        body = self._uploaded(to_polars(frame), "", "append")
        return self._session.call(
            "POST",
            path("datasets", name, "validate"),
            body=body,
            expect=ValidationReport,
            timeout_s=_COMMIT_TIMEOUT_S,
        )

    def version(self, name: str, version: int | None = None) -> DatasetVersion:
        """A version with schema, profile and files; the newest where `version` is None."""
        number = self.get(name).dataset.latest_version if version is None else version
        return self._session.call("GET", path("datasets", name, "versions", str(number)), expect=DatasetVersion)

    def scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
        """A version as a lazy Polars frame over local copies of its files, fetched once."""
        found = self.version(name, version)
        tables = [pl.scan_parquet(self._blobs.fetch(file.digest)) for file in found.files]
        return pl.concat([align(table, found.schema) for table in tables])

    def read(self, name: str, version: int | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A version as a Polars frame."""
        table = self.scan(name, version)
        return (table if columns is None else table.select(columns)).collect()

    def infer(self, frame: Any) -> tuple[Expectation, ...]:
        """The expectations that `frame` suggests, with margins: to be looked at, mended and handed to `commit`."""
        return infer_expectations(to_polars(frame))

    def list(self, limit: int = 100) -> list[Dataset]:
        """Datasets by name."""
        return self._session.call("GET", path("datasets"), query={"limit": limit}, expect=Page[Dataset]).items

    def _has_schema(self, name: str) -> bool:
        known = [dataset for dataset in self.list(limit=1_000) if dataset.name == name]
        return bool(known and known[0].schema)

    def _uploaded(self, table: pl.DataFrame, message: str, mode: Mode) -> NewVersion:
        return NewVersion(files=(FileRef(digest=self._blobs.put(write_parquet(table))),), message=message, mode=mode)
