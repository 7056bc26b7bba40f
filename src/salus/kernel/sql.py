"""SQL: the tables' common metadata, column types, and what a unit of work gets into its hands.

Slices declare their tables on `metadata` and speak SQLAlchemy Core; no slice opens a connection of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, RowMapping
from sqlalchemy.types import TypeDecorator

from salus.kernel.clock import Clock
from salus.kernel.errors import NotFound
from salus.kernel.identity import Actor
from salus.kernel.ids import new_id
from salus.kernel.structs import Record, canonical_json, digest_of

T = TypeVar("T")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = sa.String(40)
Name = sa.String(255)
Ms = sa.BigInteger


class Json(TypeDecorator[Any]):
    """A column of JSON text that holds values of one type (any JSON-compatible value by default)."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, type_: Any = Any) -> None:
        super().__init__()
        self.type_ = type_

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """To the database."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """From the database."""
        return None if value is None else msgspec.json.decode(value, type=self.type_)


class Event(Record):
    """News: something that happened, in the past tense. A subclass's name is the event's kind in the ledger."""


class PendingEvent(Record):
    """An event of a unit of work that has not committed yet; the ledger gives it its place at commit."""

    id: str
    kind: str
    workspace: str
    actor: str
    subject: str
    data: bytes
    before: str | None
    after: str | None


class Reader:
    """A snapshot to read from."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self.clock = clock

    @property
    def now_ms(self) -> int:
        """The time of the database's clock."""
        return self.clock.now_ms()

    def execute(self, statement: sa.Executable, parameters: Any = None) -> CursorResult[Any]:
        """Runs one statement; `parameters` may be a list of mappings to run it for each."""
        return self.connection.execute(statement, parameters)

    def rows(self, statement: sa.Executable) -> Sequence[RowMapping]:
        """All rows, as mappings."""
        return self.connection.execute(statement).mappings().all()

    def row(self, statement: sa.Executable) -> RowMapping | None:
        """The first row, or None."""
        return self.connection.execute(statement).mappings().first()

    def value(self, statement: sa.Executable) -> Any:
        """The first column of the first row, or None."""
        return self.connection.execute(statement).scalar()

    def records(self, type_: type[T], statement: sa.Executable) -> list[T]:
        """All rows as `type_`, whose fields are named as the columns."""
        return [_convert(row, type_) for row in self.rows(statement)]

    def record(self, type_: type[T], statement: sa.Executable) -> T | None:
        """The first row as `type_`, or None."""
        row = self.row(statement)
        return None if row is None else _convert(row, type_)

    def one(self, type_: type[T], statement: sa.Executable, *, what: str) -> T:
        """The first row as `type_`.

        Raises:
            NotFound: there is none; `what` names what was looked for ("run run_01…").
        """
        found = self.record(type_, statement)
        if found is None:
            raise NotFound(f"there is no {what}", remedy="List what there is, and check the name or id.")
        return found


class Transaction(Reader):
    """A unit of work under way: reads see its own writes; its events join the ledger when it commits."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        super().__init__(connection, clock)
        self.events: list[PendingEvent] = []

    def insert(self, table: sa.Table, *records: msgspec.Struct) -> None:
        """Inserts `records`, whose fields are named as the columns."""
        if records:
            rows = [{name: getattr(record, name) for name in record.__struct_fields__} for record in records]
            self.connection.execute(sa.insert(table), rows)

    def emit(self, actor: Actor, subject: str, event: Event, *, before: Any = None, after: Any = None) -> PendingEvent:
        """Puts `event` about `subject` (as in `run:run_01…`) into the ledger, with digests of the states it links.

        The event is recorded if and only if the unit of work commits.
        """
        pending = PendingEvent(
            id=new_id("evt"),
            kind=type(event).__name__,
            workspace=actor.workspace,
            actor=actor.principal,
            subject=subject,
            data=canonical_json(event),
            before=None if before is None else _digest(before),
            after=None if after is None else _digest(after),
        )
        self.events.append(pending)
        return pending


def _convert(row: RowMapping, type_: type[T]) -> T:
    return msgspec.convert({str(name): value for name, value in row.items()}, type_)


def _digest(value: Any) -> str:
    return value if isinstance(value, str) else digest_of(value)
