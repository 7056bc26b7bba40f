"""The spool and its shipper, by themselves."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.kernel.errors import Conflict
from salus.kernel.settings import Settings
from salus.server.dataplane import spool as spool_module
from salus.server.dataplane.control import ControlPlane
from salus.server.dataplane.frames import frame, unframe
from salus.server.dataplane.limits import Limits
from salus.server.dataplane.shipper import Shipper
from salus.server.dataplane.spool import Spool
from salus.serving.wire import prediction_id


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_what_is_whole_is_read_and_what_is_torn_is_not(payloads: list[bytes], data: st.DataObject) -> None:
    content = b"".join(map(frame, payloads))
    assert unframe(content) == (payloads, len(content))
    cut = data.draw(st.integers(0, len(content)))
    found, size_bytes = unframe(content[:cut])
    assert found == payloads[: len(found)]
    assert size_bytes <= cut < len(content) + 1
    if content:
        place = data.draw(st.integers(0, len(content) - 1))
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        found, _ = unframe(bytes(flipped))
        assert found == payloads[: len(found)]
        assert len(found) < len(payloads)


def payload(seq: int) -> bytes:
    """A record that is nothing but lawful."""
    return msgspec.msgpack.encode((seq, "late", 1, 2, "k", {"x": 1.0}, [("rev_1", "live", {"p": 1.0}, None, 3)]))


def fill(spool: Spool, count: int) -> list[str]:
    """Writes that many records; the ids of those that are on disk."""
    ids = []
    for _ in range(count):
        plane, seq = spool.begin()
        if spool.write([payload(seq)]):
            ids.append(prediction_id(plane, seq))
    return ids


@pytest.fixture
def shipper_of(control: Any) -> Any:
    """Makes the shipper of a spool, not started."""
    return lambda spool: Shipper(spool, ControlPlane(Settings(url=control.url)))


def test_files_rotate_are_shipped_in_order_and_deleted(tmp_path: Path, control: Any, shipper_of: Any) -> None:
    spool = Spool(tmp_path, Limits(spool_file_bytes=2_000))
    ids = fill(spool, 200)
    files = sorted(tmp_path.glob("pln_*/*"))
    assert len(files) > 3
    shipper = shipper_of(spool)
    shipper.ship()
    assert list(control.records) == ids
    assert list(tmp_path.glob("pln_*/*")) == files[-1:]
    assert spool.unshipped_bytes == files[-1].stat().st_size
    ids += fill(spool, 3)
    shipper.ship()
    assert list(control.records) == ids
    assert (shipper.shipped_records, control.duplicates) == (203, 0)
    spool.close()


def test_what_a_dead_process_left_is_shipped_under_its_own_name(tmp_path: Path, control: Any, shipper_of: Any) -> None:
    dead = Spool(tmp_path, Limits())
    ids = fill(dead, 5)
    (file,) = tmp_path.glob("pln_*/*")
    dead.close()
    file.write_bytes(file.read_bytes() + frame(payload(6))[:-3])
    spool = Spool(tmp_path, Limits())
    assert spool.plane != dead.plane
    shipper_of(spool).ship()
    assert list(control.records) == ids
    assert not file.parent.exists()
    assert spool.unshipped_bytes == 0
    spool.close()


def test_a_stretch_that_is_sent_again_counts_once(tmp_path: Path, control: Any, shipper_of: Any) -> None:
    spool = Spool(tmp_path, Limits())
    ids = fill(spool, 5)
    shipper_of(spool).ship()
    shipper_of(spool).ship()
    assert list(control.records) == ids
    assert control.duplicates == 5
    spool.close()


def test_damage_in_the_middle_is_told_and_stops_only_that_plane(tmp_path: Path, control: Any, shipper_of: Any) -> None:
    dead = Spool(tmp_path, Limits(spool_file_bytes=500))
    fill(dead, 30)
    dead.close()
    first = sorted(tmp_path.glob("pln_*/*"))[0]
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 0xFF
    first.write_bytes(content)
    spool = Spool(tmp_path, Limits())
    ids = fill(spool, 4)
    shipper = shipper_of(spool)
    shipper.ship()
    assert "damaged at byte" in shipper.problems[dead.plane]
    assert set(ids) <= set(control.records)
    assert first.exists(), "what cannot be read is not thrown away"
    spool.close()


@contextmanager
def full_disk(at_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `at_bytes`: write(2) fails, half written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_records_counts_them_and_begins_a_new_plane(
    tmp_path: Path, control: Any, shipper_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_EVERY_S", 0.0)
    spool = Spool(tmp_path, Limits())
    first_plane = spool.plane
    ids = fill(spool, 3)
    (file,) = tmp_path.glob("pln_*/*")
    monkeypatch.setattr(spool_module, "RETRY_EVERY_S", 1e9)
    with full_disk(file.stat().st_size + 20):
        assert fill(spool, 4) == []
    assert spool.lost_records == 4
    assert "not recorded" in (spool.problem or "")
    spool._retry_at_s = 0.0
    ids += fill(spool, 2)
    assert spool.problem is None
    assert spool.plane != first_plane
    shipper_of(spool).ship()
    assert set(control.records) == set(ids)
    spool.close()


def test_the_spool_has_a_bound(tmp_path: Path, control: Any, shipper_of: Any) -> None:
    spool = Spool(tmp_path, Limits(spool_bytes=1_000, spool_file_bytes=300))
    ids = fill(spool, 50)
    assert 0 < len(ids) < 50
    assert spool.lost_records == 50 - len(ids)
    assert spool.unshipped_bytes <= 1_000
    shipper_of(spool).ship()
    spool._retry_at_s = 0.0
    ids += fill(spool, 1)
    shipper_of(spool).ship()
    assert set(control.records) == set(ids)
    spool.close()


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits())
    with pytest.raises(Conflict, match="another data plane"):
        Spool(tmp_path, Limits())
    spool.close()
    Spool(tmp_path, Limits()).close()
