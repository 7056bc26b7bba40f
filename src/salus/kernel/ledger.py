"""The ledger: every change of state as one event in one append-only, hash-chained log.

Each entry's hash covers its content and the hash before it, so that a changed, removed or inserted entry breaks every
later hash. Checkpoints (the Merkle root of all entries so far, signed) can be kept elsewhere: they also catch a
ledger that was rewritten as a whole.

Sources: S. Haber, W. S. Stornetta, How to time-stamp a digital document, 1991 (the chain); B. Laurie et al.,
RFC 6962 Certificate Transparency, 2013, section 2.1 (the tree).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa

from salus.kernel.errors import Corrupt, NotFound
from salus.kernel.sql import Id, Ms, Name, PendingEvent, Reader, metadata
from salus.kernel.structs import Record, canonical_json

GENESIS = "0" * 64

entries = sa.Table(
    "ledger",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Column("kind", Name, nullable=False),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("actor", Name, nullable=False),
    sa.Column("subject", sa.String(512), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("before", sa.String(80)),
    sa.Column("after", sa.String(80)),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Index("ix_ledger_workspace_subject", "workspace", "subject", "seq"),
    sa.Index("ix_ledger_workspace_kind", "workspace", "kind", "seq"),
)


class Entry(Record):
    """One event with its place in the chain."""

    seq: int
    id: str
    at_ms: int
    kind: str
    workspace: str
    actor: str
    subject: str
    data: dict[str, Any]
    before: str | None
    after: str | None
    previous: str
    hash: str


def seal(reader: Reader, pending: Sequence[PendingEvent]) -> list[dict[str, Any]]:
    """Gives `pending` their places behind the last entry, and writes them. Must run inside the one writer."""
    if not pending:
        return []
    last = reader.row(sa.select(entries.c.seq, entries.c.hash).order_by(entries.c.seq.desc()).limit(1))
    seq, previous = (0, GENESIS) if last is None else (last["seq"], last["hash"])
    at_ms = reader.now_ms
    rows = []
    for event in pending:
        seq += 1
        row = {
            "seq": seq,
            "id": event.id,
            "at_ms": at_ms,
            "kind": event.kind,
            "workspace": event.workspace,
            "actor": event.actor,
            "subject": event.subject,
            "data": event.data.decode(),
            "before": event.before,
            "after": event.after,
            "previous": previous,
        }
        row["hash"] = previous = _hash(row)
        rows.append(row)
    reader.execute(sa.insert(entries), rows)
    return rows


def _hash(row: dict[str, Any]) -> str:
    covered = {name: value for name, value in row.items() if name != "hash"}
    return hashlib.sha256(canonical_json(covered)).hexdigest()


def head(reader: Reader) -> int:
    """The sequence number of the newest entry; 0 when there is none."""
    return reader.value(sa.select(sa.func.max(entries.c.seq))) or 0


def read(
    reader: Reader,
    *,
    after: int = 0,
    limit: int = 100,
    workspace: str | None = None,
    kinds: Sequence[str] = (),
    subject: str | None = None,
    newest_first: bool = False,
) -> list[Entry]:
    """Entries with a sequence number above `after` (below it, if `newest_first` and `after` > 0), at most `limit`."""
    query = sa.select(entries).limit(limit)
    if newest_first:
        query = query.order_by(entries.c.seq.desc())
        query = query.where(entries.c.seq < after) if after else query
    else:
        query = query.order_by(entries.c.seq).where(entries.c.seq > after)
    if workspace is not None:
        query = query.where(entries.c.workspace == workspace)
    if kinds:
        query = query.where(entries.c.kind.in_(kinds))
    if subject is not None:
        query = query.where(entries.c.subject == subject)
    return [_entry(dict(row)) for row in reader.rows(query)]


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**{**row, "data": msgspec.json.decode(row["data"])})


class Verdict(Record):
    """What a verification found: how many entries, the chain's last hash, the Merkle root over all."""

    entries: int
    head: str
    root: str


def verify(reader: Reader, *, upto: int | None = None, batch: int = 5_000) -> Verdict:
    """Recomputes the chain: all of it, or its first `upto` entries (to compare with a root that was kept elsewhere).

    Raises:
        Corrupt: an entry was changed, removed or inserted; `details` holds the first bad sequence number.

    Cost: one pass, about 10 microseconds an entry; memory of one batch and 32 bytes a tree level.
    """
    previous, count = GENESIS, 0
    tree = MerkleTree()
    for row in islice(_walk(reader, batch), upto):
        count += 1
        if row["seq"] != count:
            raise _broken(count, f"entry {count} is missing (found {row['seq']} in its place)")
        if row["previous"] != previous:
            raise _broken(count, f"entry {count} does not follow from the entry before it")
        if _hash(dict(row)) != row["hash"]:
            raise _broken(count, f"entry {count} was changed after it was written")
        previous = row["hash"]
        tree.add(bytes.fromhex(previous))
    if upto is not None and count < upto:
        raise _broken(count + 1, f"entry {count + 1} is missing (the ledger ends at {count})")
    return Verdict(entries=count, head=previous, root=tree.root().hex())


def _walk(reader: Reader, batch: int) -> Iterator[Any]:
    after = 0
    while True:
        query = sa.select(entries).where(entries.c.seq > after).order_by(entries.c.seq).limit(batch)
        rows = reader.rows(query)
        yield from rows
        if len(rows) < batch:
            return
        after = rows[-1]["seq"]


def _broken(seq: int, what: str) -> Corrupt:
    return Corrupt(
        f"the ledger is broken: {what}",
        path=f"ledger[{seq}]",
        remedy="Compare with a checkpoint or a backup to see what was there.",
        details={"seq": seq},
    )


def get(reader: Reader, seq: int) -> Entry:
    """The entry with this sequence number. Raises `NotFound`."""
    row = reader.row(sa.select(entries).where(entries.c.seq == seq))
    if row is None:
        raise NotFound(f"the ledger has no entry {seq}")
    return _entry(dict(row))


class MerkleTree:
    """The tree head over a growing list of leaves, in memory of one hash per level (RFC 6962, section 2.1).

    >>> MerkleTree().root() == hashlib.sha256(b"").digest()
    True
    """

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Appends one leaf."""
        size, node = 1, hashlib.sha256(b"\x00" + leaf).digest()
        while self._peaks and self._peaks[-1][0] == size:
            node = hashlib.sha256(b"\x01" + self._peaks.pop()[1] + node).digest()
            size *= 2
        self._peaks.append((size, node))

    def root(self) -> bytes:
        """The head over all leaves so far."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        node = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            node = hashlib.sha256(b"\x01" + left + node).digest()
        return node
