"""How the data plane speaks to the control plane: three verbs over the SDK's session, each tried once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from salus.kernel.content import check_digest, verify
from salus.kernel.settings import Settings
from salus.sdk.session import Session, path

_TIMEOUT_S = 30.0


class ControlPlane:
    """The control plane of `settings`. Safe to use from several threads.

    Every call raises the `SalusError` that the control plane answered with, or `Unavailable` when it does not
    answer; whoever calls decides when to try again.
    """

    def __init__(self, settings: Settings) -> None:
        self._session = Session(settings, attempts=1)

    def get(self, *parts: str, query: Mapping[str, Any] | None = None, wait_s: float = 0.0) -> bytes:
        """The body of a GET, empty for 204. `wait_s` is how long the answer may be held back."""
        return self._session.send("GET", path(*parts), query=query, timeout_s=_TIMEOUT_S + wait_s)

    def post(self, *parts: str, body: bytes, media_type: str) -> bytes:
        """The body of the answer to a POST."""
        headers = {"Content-Type": media_type}
        return self._session.send("POST", path(*parts), content=body, headers=headers, timeout_s=_TIMEOUT_S)

    def report(self, report: msgspec.Struct) -> None:
        """Registers this plane, or says that it still lives."""
        body = msgspec.json.encode(report)
        self.post("serving", "planes", body=body, media_type="application/json")

    def blob(self, digest: str) -> bytes:
        """The bytes under `digest`. Raises `Corrupt` when they are others."""
        return verify(self.get("blobs", check_digest(digest)), digest)
