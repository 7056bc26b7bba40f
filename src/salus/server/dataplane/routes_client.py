"""The loops that keep a data plane up to date: routes, online features, heartbeat. Each waits in its own thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from salus.features.model import OnlineChanges
from salus.kernel.errors import SalusError
from salus.kernel.structs import invalid
from salus.server.dataplane.control import ControlPlane
from salus.server.dataplane.limits import Limits
from salus.server.dataplane.models import ModelFiles, load_model, replace_file
from salus.server.dataplane.online import OnlineFeatures
from salus.server.dataplane.onnx_model import OnnxModel
from salus.server.dataplane.plans import NO_PLANS, Plans
from salus.serving.wire import RouteTable

WAIT_S = 20.0
ONLINE_WAIT_S = 5.0
"""Shorter: the control plane forgets a plane that has not asked for ten seconds."""
ONLINE_PATIENCE_S = 3.0
HEARTBEAT_EVERY_S = 2.0
_MAX_BACK_OFF_S = 5.0

log = logging.getLogger("salus.routes")


class Loop:
    """Calls `turn` again and again in a thread. After an error it waits, longer each time, and says so once."""

    def __init__(self, name: str, turn: Callable[[], None], *, pause_s: float = 0.0) -> None:
        self.problem: str | None = None
        self.closing = threading.Event()
        self._name = name
        self._turn = turn
        self._pause_s = pause_s
        self._thread = threading.Thread(target=self._run, name=f"salus-{name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def _run(self) -> None:
        back_off_s = 0.1
        while not self.closing.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - the outer loop of a thread
                if self.problem is None:
                    log.warning("%s: %s", self._name, error)
                self.problem = f"{self._name}: {error}"
                self.closing.wait(back_off_s)
                back_off_s = min(back_off_s * 2, _MAX_BACK_OFF_S)
            else:
                self.problem = None
                back_off_s = 0.1
                self.closing.wait(self._pause_s)


class RoutesClient:
    """Holds the newest table that could be served whole; keeps it on disk for a start without control plane.

    A table whose models cannot all be loaded is refused as a whole and tried again; the one before goes on.
    `switch` is called with each new `Plans`, in the thread that polls. `known`: what is current is what the
    control plane wants, or wanted when it was last heard.
    """

    def __init__(self, folder: Path, control: ControlPlane, limits: Limits, switch: Callable[[Plans], None]) -> None:
        self.current = NO_PLANS
        self.known = False
        self.refused: str | None = None
        self._path = folder / "routes.msgpack"
        self._control = control
        self._limits = limits
        self._switch = switch
        self._files = ModelFiles(folder / "models", control)

    def restore(self) -> None:
        """Serves the table of the last run, if there is one that still works."""
        try:
            table = msgspec.msgpack.decode(self._path.read_bytes(), type=RouteTable)
            self._apply(table)
        except FileNotFoundError:
            return
        except (SalusError, msgspec.DecodeError) as error:
            self.refused = f"the routes on disk cannot be served: {error}"
            log.error("%s", self.refused)

    def poll(self, plane: str, wait_s: float = WAIT_S) -> None:
        """Waits for a table other than the one served, and serves it."""
        after = self.current.epoch if self.known else -1
        query = {"after": after, "wait_s": wait_s, "plane": plane}
        body = self._control.get("serving", "routes", query=query, wait_s=wait_s)
        if not body:
            self.known = True
            return
        try:
            table = msgspec.msgpack.decode(body, type=RouteTable)
        except msgspec.ValidationError as error:
            raise invalid(error) from error
        if table.epoch == self.current.epoch and self.current is not NO_PLANS:
            return
        try:
            self._apply(table)
        except SalusError as error:
            self.refused = f"routes of epoch {table.epoch} are refused, {self.current.epoch} goes on: {error}"
            raise
        replace_file(self._path, body)
        self._files.keep_only(file.digest for route in table.revisions for file in route.files)

    def _apply(self, table: RouteTable) -> None:
        held: dict[Any, OnnxModel] = {}
        for route in self.current.table.revisions:
            held[_identity(route)] = self.current.models[route.revision]
        models = {
            route.revision: held.get(_identity(route)) or load_model(route, self._files) for route in table.revisions
        }
        plans = Plans(table, models, self._limits)
        for plan in plans.endpoints.values():
            plan.warm_up()
        self.current = plans
        self.known = True
        self.refused = None
        self._switch(plans)


def _identity(route: Any) -> Any:
    return route.revision, tuple(file.digest for file in route.files), msgspec.msgpack.encode(route.signature)


class OnlineClient:
    """Follows the changes of the online features.

    A plane that has just been started has none. Until it has caught up it should not answer what needs them: a look-up
    would find nothing, and nobody could tell that from a value that is missing. Without the control plane it answers
    all the same, after `patience_s`.
    """

    def __init__(self, control: ControlPlane, features: OnlineFeatures, patience_s: float = ONLINE_PATIENCE_S) -> None:
        self.cursor = 0
        self._control = control
        self._features = features
        self._caught_up = False
        self._settled_at_s = time.monotonic() + patience_s

    @property
    def settled(self) -> bool:
        """Whether it has caught up once, or could not in time."""
        return self._caught_up or time.monotonic() >= self._settled_at_s

    def poll(self, plane: str, wait_s: float = ONLINE_WAIT_S) -> None:
        """Waits for changes after the last ones, and takes them in; does not wait before it has caught up."""
        wait_s = wait_s if self._caught_up else 0.0
        query = {"after": self.cursor, "wait_s": wait_s, "plane": plane}
        body = self._control.get("features", "online", "changes", query=query, wait_s=wait_s)
        if not body:
            self._caught_up = True
            return
        try:
            changes = msgspec.msgpack.decode(body, type=OnlineChanges)
        except msgspec.ValidationError as error:
            raise invalid(error) from error
        self._features.apply(changes)
        self.cursor = changes.cursor
        self._caught_up = self._caught_up or not changes.rows
