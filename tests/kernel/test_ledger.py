"""The ledger: its chain finds tampering, its tree is RFC 6962's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from salus.kernel import ledger
from salus.kernel.clock import FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Corrupt, NotFound
from salus.kernel.identity import Actor
from salus.kernel.ledger import MerkleTree, entries
from salus.kernel.sql import Event, Transaction
from salus.kernel.structs import digest_of

SIZE = 12


class DriftRaised(Event):
    feature: str
    effect: float


class RunFinished(Event):
    status: str


@pytest.fixture
def filled(database: SqlDatabase, actor: Actor, clock: FrozenClock) -> SqlDatabase:
    for number in range(SIZE):
        clock.advance(seconds=1)
        event: Event = DriftRaised(feature=f"f{number}", effect=0.1) if number % 2 else RunFinished(status="ok")
        database.write(lambda tx, n=number, e=event: tx.emit(actor, f"run:{n}", e, after={"n": n}) and None)
    return database


def change(tx: Transaction) -> None:
    tx.execute(sa.update(entries).where(entries.c.seq == 5).values(actor="eve"))


def change_data(tx: Transaction) -> None:
    tx.execute(sa.update(entries).where(entries.c.seq == 5).values(data='{"status":"failed"}'))


def delete(tx: Transaction) -> None:
    tx.execute(sa.delete(entries).where(entries.c.seq == 5))


def delete_and_close_up(tx: Transaction) -> None:
    delete(tx)
    for seq in range(6, SIZE + 1):
        tx.execute(sa.update(entries).where(entries.c.seq == seq).values(seq=seq - 1))


def insert(tx: Transaction) -> None:
    for seq in range(SIZE, 4, -1):
        tx.execute(sa.update(entries).where(entries.c.seq == seq).values(seq=seq + 1))
    row = dict(tx.row(sa.select(entries).where(entries.c.seq == 4)) or {})
    tx.execute(sa.insert(entries).values({**row, "seq": 5, "id": "evt_forged", "previous": row["hash"]}))


def reorder(tx: Transaction) -> None:
    for old, new in ((5, 99), (6, 5), (99, 6)):
        tx.execute(sa.update(entries).where(entries.c.seq == old).values(seq=new))


@pytest.mark.parametrize("tamper", [change, change_data, delete, delete_and_close_up, insert, reorder])
@pytest.mark.parametrize("batch", [3, 5_000])
def test_tampering_is_found_where_it_happened(
    filled: SqlDatabase, tamper: Callable[[Transaction], None], batch: int
) -> None:
    assert filled.read(lambda reader: ledger.verify(reader, batch=batch)).entries == SIZE
    filled.write(tamper)
    with pytest.raises(Corrupt, match="ledger is broken") as caught:
        filled.read(lambda reader: ledger.verify(reader, batch=batch))
    assert caught.value.details == {"seq": 5}


def test_a_cut_tail_and_a_rewritten_ledger_are_found_by_a_checkpoint(filled: SqlDatabase) -> None:
    kept = filled.read(ledger.verify)
    filled.write(lambda tx: tx.execute(sa.delete(entries).where(entries.c.seq > 10)) and None)
    cut = filled.read(ledger.verify)
    assert cut.entries == 10
    assert cut.root != kept.root


def test_the_root_is_that_of_the_chain_s_hashes(filled: SqlDatabase) -> None:
    hashes = filled.read(lambda reader: [bytes.fromhex(entry.hash) for entry in ledger.read(reader)])
    assert filled.read(ledger.verify).root == brute_force(hashes).hex()


def brute_force(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word: split at the largest power of two below n."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + brute_force(leaves[:split]) + brute_force(leaves[split:])).digest()


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_the_tree_is_rfc_6962_s(leaves: list[bytes]) -> None:
    tree = MerkleTree()
    for leaf in leaves:
        tree.add(leaf)
    assert tree.root() == brute_force(leaves)


def test_entries_are_found_by_cursor_kind_subject_and_workspace(filled: SqlDatabase) -> None:
    def found(**options: object) -> list[int]:
        return filled.read(lambda reader: [entry.seq for entry in ledger.read(reader, **options)])

    assert found(after=9) == [10, 11, 12]
    assert found(limit=2) == [1, 2]
    assert found(newest_first=True, limit=2) == [12, 11]
    assert found(newest_first=True, after=3) == [2, 1]
    assert found(kinds=["DriftRaised"], limit=3) == [2, 4, 6]
    assert found(subject="run:6") == [7]
    assert found(workspace="another") == []


def test_an_entry_says_who_did_what_when(filled: SqlDatabase, clock: FrozenClock) -> None:
    entry = filled.read(lambda reader: ledger.get(reader, 2))
    assert (entry.actor, entry.kind, entry.subject) == ("ann", "DriftRaised", "run:1")
    assert entry.data == {"feature": "f1", "effect": 0.1}
    assert entry.at_ms == FrozenClock().now_ms() + 2_000
    assert (entry.before, entry.after) == (None, digest_of({"n": 1}))
    with pytest.raises(NotFound, match="no entry 13"):
        filled.read(lambda reader: ledger.get(reader, 13))
