"""The shipper: takes spooled records to the control plane, in order, until it has acknowledged each.

Every plane that left records here is shipped under its own id, those of earlier processes too. The control plane
knows a stretch by (plane, first seq), so a stretch that is sent twice counts once.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from salus.kernel.errors import SalusError, TooLarge
from salus.kernel.structs import decode_json
from salus.server.dataplane.control import ControlPlane
from salus.server.dataplane.frames import unframe
from salus.server.dataplane.spool import SUFFIX, Spool

BATCH_RECORDS = 2_000
PAUSE_S = 0.25
_MAX_BACK_OFF_S = 5.0
_READ_BYTES = 2 * 1024 * 1024

log = logging.getLogger("salus.shipper")


class _Batch(msgspec.Struct, frozen=True):
    """`salus.serving.wire.PredictionBatch` with records that are encoded already."""

    plane: str
    first_seq: int
    last_seq: int
    records: list[msgspec.Raw]


class Receipt(msgspec.Struct, frozen=True):
    """The control plane's answer: it has all records of the plane up to `through_seq`."""

    through_seq: int


@dataclass
class _Place:
    """How far one plane's records are shipped: the next one is `seq`, at `offset` of `path`."""

    path: Path
    offset: int
    seq: int
    retry_at_s: float = 0.0
    back_off_s: float = 0.0
    batch_records: int = BATCH_RECORDS


class Shipper:
    """The reading end of the spool, in a thread of its own."""

    def __init__(self, spool: Spool, control: ControlPlane) -> None:
        self.shipped_records = 0
        self.problems: dict[str, str] = {}
        self._spool = spool
        self._control = control
        self._places: dict[str, _Place] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._ship_forever, name="salus-shipper", daemon=True)

    def start(self) -> None:
        """Begins to ship."""
        self._thread.start()

    def close(self, timeout_s: float = 3.0) -> None:
        """Ships what it can within `timeout_s`, then stops; the rest stays on disk for the next start."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _ship_forever(self) -> None:
        while not self._closing.wait(PAUSE_S):
            try:
                self.ship()
            except Exception:
                log.exception("shipping failed, it goes on")
        self.ship()

    def ship(self) -> None:
        """Ships all that is there now, each plane until it is empty or refused."""
        folders = sorted(path for path in self._spool.folder.iterdir() if path.is_dir())
        for folder in folders:
            try:
                while self._ship_next(folder):
                    pass
            except SalusError as error:
                self._back_off(folder.name, error)
            except OSError as error:
                self.problems[folder.name] = f"spool {folder.name} cannot be read: {error}"

    def _back_off(self, plane: str, error: SalusError) -> None:
        place = self._places[plane]
        if isinstance(error, TooLarge) and place.batch_records > 1:
            place.batch_records //= 2
            return
        place.back_off_s = min(max(PAUSE_S, place.back_off_s * 2), _MAX_BACK_OFF_S)
        place.retry_at_s = time.monotonic() + place.back_off_s
        if error.status != 503:
            self.problems[plane] = f"records of {plane} are refused: {error}"
            log.error("%s", self.problems[plane])

    def _ship_next(self, folder: Path) -> bool:
        """Ships the next stretch of one plane; whether there may be more."""
        files = sorted(folder.glob(f"*{SUFFIX}"))
        if not files:
            if folder.name != self._spool.plane:
                folder.rmdir()
            return False
        place = self._places.setdefault(folder.name, _Place(files[0], 0, _first_seq(files[0])))
        if time.monotonic() < place.retry_at_s:
            return False
        final = len(files) == 1 and folder.name == self._spool.plane
        active = self._spool.is_active(place.path)
        payloads, size_bytes = _read(place)
        if payloads:
            self._send(folder.name, place, payloads)
            place.offset += size_bytes
            place.seq += len(payloads)
            return True
        if final or active:
            return False
        return self._next_file(folder.name, place, files)

    def _send(self, plane: str, place: _Place, payloads: list[bytes]) -> None:
        last_seq = place.seq + len(payloads) - 1
        batch = _Batch(plane, place.seq, last_seq, [msgspec.Raw(payload) for payload in payloads])
        body = msgspec.msgpack.encode(batch)
        answer = self._control.post("serving", "predictions", body=body, media_type="application/msgpack")
        receipt = decode_json(answer, Receipt)
        if receipt.through_seq < last_seq:
            raise SalusError(f"sent through {last_seq}, the control plane has through {receipt.through_seq}")
        self.shipped_records += len(payloads)
        self.problems.pop(plane, None)
        place.back_off_s = 0.0
        place.batch_records = BATCH_RECORDS

    def _next_file(self, plane: str, place: _Place, files: list[Path]) -> bool:
        """Deletes the file that is shipped to its end and goes on with the next."""
        later = [path for path in files if _first_seq(path) > _first_seq(place.path)]
        if later and _first_seq(later[0]) != place.seq:
            self.problems[plane] = (
                f"{place.path} is damaged at byte {place.offset:,}: records {place.seq} to "
                f"{_first_seq(later[0]) - 1} of {plane} cannot be read"
            )
            return False
        size_bytes = place.path.stat().st_size
        if place.offset < size_bytes:
            log.warning("%s: dropped a torn tail of %d bytes", place.path, size_bytes - place.offset)
        place.path.unlink()
        self._spool.forget(size_bytes)
        if later:
            place.path, place.offset = later[0], 0
        else:
            del self._places[plane]
        return True


def _first_seq(path: Path) -> int:
    return int(path.name.removesuffix(SUFFIX), 16)


def _read(place: _Place) -> tuple[list[bytes], int]:
    """The next whole records at `place`, at most a batch of them."""
    want_bytes = _READ_BYTES
    with place.path.open("rb") as file:
        while True:
            file.seek(place.offset)
            content = file.read(want_bytes)
            payloads, size_bytes = unframe(content, limit=place.batch_records)
            if payloads or len(content) < want_bytes:
                return payloads, size_bytes
            want_bytes *= 4
