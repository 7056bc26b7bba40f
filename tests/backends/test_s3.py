"""Object stores, through the same library that speaks to S3, Google Cloud Storage and Azure."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from salus.backends.s3 import StoreBlobs, open_store
from salus.kernel.errors import InvalidInput, Unavailable
from salus.testing.conformance import BlobsConformance


class TestStores(BlobsConformance):
    @pytest.fixture(params=["memory", "local"])
    def blobs(self, request: pytest.FixtureRequest, tmp_path: Path) -> StoreBlobs:
        self.store = MemoryStore() if request.param == "memory" else LocalStore(tmp_path)
        return StoreBlobs(self.store)

    def damage(self, blobs: StoreBlobs, digest: str) -> None:
        name = digest.removeprefix("blake3:")
        obstore.put(self.store, f"{name[:2]}/{name}", b"other")


def test_a_store_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    blobs = open_store("s3://bucket/prefix")
    with pytest.raises(Unavailable):
        blobs.put(b"x")


def test_an_address_that_names_no_store() -> None:
    with pytest.raises(InvalidInput):
        open_store("s4://bucket")
