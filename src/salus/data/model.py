"""Datasets: a name, the schema and expectations that bind its rows, and numbered versions that never
change.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from salus.data.expectations import Expectation
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, DType, Schema
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value, digest_of

Mode = Literal["append", "replace"]
"""`append`: the version holds the rows before it and the new ones. `replace`: only the new ones."""

MAX_FILES = 1_000
MAX_COLUMNS = 2_000
MAX_CELLS = 100_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: str, path: str = "$.name") -> str:
    """`name`, if it is lawful for a dataset, a feature view or a model.

    Raises:
        InvalidInput: it is empty, too long, or has a character outside letters, digits, `.`, `_` and `-`.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a name has 1 to 128 letters, digits, '.', '_' or '-' and begins with a letter or digit, "
            f"got {name[:140]!r}",
            path=path,
        )
    return name


class TopValue(Record):
    """A frequent value and how often it came."""

    value: str
    count: int


class Histogram(Record):
    """`counts[i]` values lie in [edges[i], edges[i+1]) (the last interval is closed)."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ColumnProfile(Record):
    """What one column holds. Numbers of a `time` column are milliseconds since 1970.

    `quantiles` are at 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99. `distinct` is estimated (HyperLogLog,
    about 2 %). NaN and infinities count as `not_finite` and enter nothing else.
    """

    name: str
    dtype: DType
    rows: int
    missing: int
    distinct: int
    not_finite: int = 0
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: tuple[float, ...] = ()
    histogram: Histogram | None = None
    top: tuple[TopValue, ...] = ()

    @property
    def missing_ratio(self) -> float:
        """The share of rows without a value; 0 when there are no rows."""
        return self.missing / self.rows if self.rows else 0.0


class Profile(Record):
    """What a table holds, column by column."""

    rows: int
    columns: tuple[ColumnProfile, ...]

    def get(self, name: str) -> ColumnProfile | None:
        """The profile of that column, or None."""
        return next((column for column in self.columns if column.name == name), None)


class Example(Record):
    """A row that breaks a law: its position in the batch (from 0) and its value there."""

    row: int
    value: Any


class Violation(Record):
    """A law that a batch breaks: how many of its rows do, and some of them."""

    rule: str
    column: str | None
    law: str
    observed: str
    count: int
    examples: tuple[Example, ...] = ()


class ValidationReport(Record):
    """What a batch was checked against, and every law it breaks."""

    dataset: str
    rows: int
    checked: int
    violations: tuple[Violation, ...]

    @property
    def passed(self) -> bool:
        """Whether no law is broken."""
        return not self.violations


class ChangedColumn(Record):
    """A column whose type or nullability is another than before."""

    name: str
    before: Column
    after: Column


class SchemaChange(Record):
    """How a version's columns differ from those of the version before."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[ChangedColumn, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def schema_change(before: Schema | None, after: Schema) -> SchemaChange:
    """What is new, gone or different in `after`; nothing for a first version.

    >>> a = Schema(columns=(Column(name="x", dtype="int"), Column(name="y", dtype="int")))
    >>> b = Schema(columns=(Column(name="x", dtype="float"), Column(name="z", dtype="int")))
    >>> change = schema_change(a, b)
    >>> change.added, change.removed, [c.name for c in change.changed]
    (('z',), ('y',), ['x'])
    """
    if before is None:
        return SchemaChange()
    changed = []
    for column in after.columns:
        old = before.get(column.name)
        if old is not None and old != column:
            changed.append(ChangedColumn(name=column.name, before=old, after=column))
    return SchemaChange(
        added=tuple(name for name in after.names if before.get(name) is None),
        removed=tuple(name for name in before.names if after.get(name) is None),
        changed=tuple(changed),
    )


def check_append(before: Schema, after: Schema) -> None:
    """Whether rows of `after` may stand beside rows of `before`: a type may only widen from int to float.

    Raises:
        InvalidInput: a column changed to a type that cannot hold the older values.
    """
    for change in schema_change(before, after).changed:
        pair = (change.before.dtype, change.after.dtype)
        if pair[0] != pair[1] and pair != ("int", "float"):
            raise InvalidInput(
                f"{change.name} was {pair[0]} and is {pair[1]} now: appended rows cannot stand beside the older ones",
                path="$.mode",
                remedy="Commit with mode 'replace', or give the column a new name.",
            )


class Dataset(Record):
    """A dataset. `schema` is None until it is declared or the first version is there.

    `revision` counts the changes of what binds the rows (schema, expectations, event time).
    """

    name: str
    description: str
    schema: Schema | None
    expectations: tuple[Expectation, ...]
    event_time: str | None
    revision: int
    latest_version: int
    created_ms: int
    updated_ms: int


class DataFile(Record):
    """One immutable Parquet file of a version."""

    digest: str
    size_bytes: int
    rows: int


class DatasetVersion(Record):
    """A version: numbered from 1, never changed.

    `digest` covers all content: the same batches committed in the same order under the same schema give
    the same digest. `profile` describes the batch that this version brought, `rows` all rows it holds.
    """

    dataset: str
    version: int
    message: str
    mode: Mode
    rows: int
    added_rows: int
    digest: str
    schema: Schema
    schema_change: SchemaChange
    profile: Profile
    files: tuple[DataFile, ...]
    created_ms: int
    created_by: str

    @property
    def node(self) -> str:
        """Its name in lineage and ledger: `dataset_version:flights@3`."""
        return version_node(self.dataset, self.version)


class DatasetVersionSummary(Record):
    """A version as lists show it."""

    dataset: str
    version: int
    message: str
    mode: Mode
    rows: int
    added_rows: int
    digest: str
    created_ms: int
    created_by: str


class DatasetDetail(Record):
    """A dataset with its versions, newest first."""

    dataset: Dataset
    versions: tuple[DatasetVersionSummary, ...]


def version_node(dataset: str, version: int) -> str:
    """The name of a version in lineage and ledger.

    >>> version_node("flights", 3)
    'dataset_version:flights@3'
    """
    return f"dataset_version:{dataset}@{version}"


def segment_table(workspace: str, dataset: str) -> str:
    """The segment table that holds a dataset's newest rows.

    >>> segment_table("default", "flights")
    'dataset:default/flights'
    """
    return f"dataset:{workspace}/{dataset}"


def content_digest(previous: str | None, schema: Schema, batch: tuple[str, ...]) -> str:
    """The digest of a version: of the version it appends to (None: of none), its schema and its batch's
    digests.
    """
    return digest_of({"previous": previous, "schema": schema, "batch": batch})


class PutDataset(Value):
    """What a dataset shall be. A field that is None stays as it is."""

    description: str | None = None
    schema: Schema | None = None
    expectations: tuple[Expectation, ...] | None = None
    event_time: str | None = None


class FileRef(Value):
    """A Parquet file that was uploaded as a blob."""

    digest: str


class NewVersion(Value):
    """A batch of rows to commit: uploaded Parquet files, taken together."""

    files: tuple[FileRef, ...]
    message: str = ""
    mode: Mode = "append"


class DatasetChanged(Event):
    """What binds a dataset's rows was declared or changed."""

    dataset: str
    revision: int
    columns: int
    expectations: int


class DatasetVersionCommitted(Event):
    """A dataset has a new version."""

    dataset: str
    version: int
    mode: Mode
    rows: int
    added_rows: int
    digest: str
    added_columns: tuple[str, ...]
    removed_columns: tuple[str, ...]
    changed_columns: tuple[str, ...]


class BatchRefused(Event):
    """A batch broke the laws of its dataset; nothing of it was kept."""

    dataset: str
    rows: int
    files: tuple[str, ...]
    violations: tuple[Violation, ...]
