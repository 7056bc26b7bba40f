"""Data planes: they say they are there, and how they are."""

from __future__ import annotations

import msgspec

from salus.kernel.errors import Denied, InvalidInput
from salus.kernel.identity import Actor
from salus.kernel.sql import Reader, Transaction
from salus.serving.model.endpoints import NAME
from salus.serving.model.predictions import Plane, PlaneReport, PlaneStarted
from salus.serving.store import predictions as store

_PLANE_LENGTH = 40


def report_plane(tx: Transaction, actor: Actor, body: PlaneReport) -> Plane:
    """Takes note of what a data plane says of itself; the first time, it is registered.

    Raises:
        Denied: it belongs to another workspace.
    """
    known = known_plane(tx, actor, body.plane)
    if known.started_ms == 0:
        started = PlaneStarted(plane=body.plane, address=body.address)
        tx.emit(actor, f"plane:{body.plane}", started)
    plane = msgspec.structs.replace(
        known,
        started_ms=body.started_ms,
        seen_ms=tx.now_ms,
        epoch=body.epoch,
        counters=body.counters,
        problems=body.problems,
        address=body.address,
    )
    store.update_plane(tx, plane)
    return plane


def known_plane(tx: Transaction, actor: Actor, plane: str) -> Plane:
    """The plane, registered if it is new (`started_ms` is 0 until it reports).

    Raises:
        Denied: it belongs to another workspace.
        InvalidInput: the name is none.
    """
    found = store.find_plane(tx, plane)
    if found is None:
        if not NAME.fullmatch(plane) or len(plane) > _PLANE_LENGTH:
            raise InvalidInput(
                f"a plane's id has at most {_PLANE_LENGTH} letters, digits, '_' and '-', got {plane[:80]!r}",
                path="$.plane",
            )
        found = Plane(
            plane=plane,
            workspace=actor.workspace,
            started_ms=0,
            seen_ms=tx.now_ms,
            through_seq=0,
            epoch=0,
            counters={},
            problems=(),
            address="",
        )
        store.add_plane(tx, found)
    if found.workspace != actor.workspace:
        raise Denied(f"the plane {plane} belongs to another workspace", path="$.plane")
    return found


def list_planes(reader: Reader, actor: Actor) -> list[Plane]:
    """All planes of the workspace, newest first."""
    return store.planes_of(reader, actor.workspace)
