"""Feature views: what is known of an entity over time. Feature services: the features that a model is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from salus.kernel.errors import Conflict, InvalidInput
from salus.kernel.schema import Column, Schema
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value

KEY_TYPES = ("string", "int")
CREATED_MS = "created_ms"
RESERVED = frozenset({CREATED_MS, "event_ms"})
MAX_DEPTH = 1_000
DEFAULT_DEPTH = 8


class FeatureView(Record):
    """Features of one entity, as rows of (keys, event time, features).

    A row holds from its event time on, until a newer one of the same keys comes or `ttl_s` seconds have passed
    (None: for ever). `online_depth` is how many of the newest rows of each key serving can see.
    """

    name: str
    description: str
    entity: str
    keys: tuple[Column, ...]
    event_time: str
    features: tuple[Column, ...]
    ttl_s: float | None
    online_depth: int
    rows: int
    newest_event_ms: int | None
    created_ms: int
    updated_ms: int

    @property
    def ttl_ms(self) -> int | None:
        """The time to live in milliseconds."""
        return None if self.ttl_s is None else round(self.ttl_s * 1000)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the key columns."""
        return tuple(column.name for column in self.keys)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(column.name for column in self.features)

    @property
    def schema(self) -> Schema:
        """The columns of a pushed table: keys and event time are never missing, features as they say."""
        keys = tuple(Column(name=column.name, dtype=column.dtype, nullable=False) for column in self.keys)
        moment = Column(name=self.event_time, dtype="time", nullable=False)
        return Schema(columns=(*keys, moment, *self.features))


class PutView(Value):
    """What a view shall be. A key that is only a name is of type string."""

    entity: str
    keys: tuple[str | Column, ...]
    event_time: str
    features: tuple[Column, ...]
    ttl_s: float | None = None
    online_depth: int = DEFAULT_DEPTH
    description: str = ""


class ServiceView(Record):
    """What a service takes of a view: `features` (empty: all), found by `keys`: view's key to request's column."""

    view: str
    features: tuple[str, ...] = ()
    keys: dict[str, str] = {}


class FeatureService(Record):
    """The features that a model is given, from one or several views."""

    name: str
    views: tuple[ServiceView, ...]
    description: str
    created_ms: int
    updated_ms: int


class PutService(Value):
    """What a service shall be."""

    views: tuple[ServiceView, ...]
    description: str = ""


class Pushed(Record):
    """What a push brought: rows in the history, rows that serving sees now, and the cursor that they have."""

    view: str
    rows: int
    online_rows: int
    cursor: int


class OnlineRow(Record):
    """One change of the online state: the `values` that hold for `key` of `view` from `event_ms` on."""

    view: str
    key: list[Any]
    event_ms: int
    values: dict[str, Any]


class OnlineChanges(Record):
    """Changes in order; `cursor` goes back as `after` in the next call, which acknowledges these.

    `depths`: of each view that has changes, how many of the newest rows of a key are to be kept.
    """

    cursor: int
    rows: list[OnlineRow]
    depths: dict[str, int] = {}


class OnlineRead(Value):
    """Which keys to look up, each as its values in the view's order; as of `at_ms` (None: now)."""

    view: str
    keys: list[list[Any]]
    at_ms: int | None = None


class Acknowledged(Record):
    """How far a data plane has read, and when it was seen last."""

    plane: str
    cursor: int
    seen_ms: int


class OnlineStatus(Record):
    """The newest cursor, and the data planes that have asked for changes lately.

    `settled` is false in the first seconds of a control plane, when planes that live may not have asked it yet.
    """

    cursor: int
    planes: list[Acknowledged]
    settled: bool = True


class FeatureViewChanged(Event):
    """A view was declared or changed."""

    view: str
    features: tuple[str, ...]


class FeatureServiceChanged(Event):
    """A feature service was declared or changed."""

    service: str
    views: tuple[str, ...]


class FeaturesPushed(Event):
    """Rows were added to a view's history."""

    view: str
    rows: int
    online_rows: int
    cursor: int
    min_event_ms: int
    max_event_ms: int


def entity_key(values: Sequence[Any]) -> str:
    """The key of an entity as text: its only value, or all of them as a JSON array.

    >>> entity_key(["EWR"]), entity_key([7]), entity_key(["EWR", 7])
    ('EWR', '7', '["EWR",7]')
    """
    if len(values) == 1:
        return values[0] if isinstance(values[0], str) else msgspec.json.encode(values[0]).decode()
    return msgspec.json.encode(list(values)).decode()


def parse_entity_key(keys: Sequence[Column], text: str) -> list[Any]:
    """The values behind `entity_key`, for the view's key columns."""
    if len(keys) > 1:
        values: list[Any] = msgspec.json.decode(text)
        return values
    return [text] if keys[0].dtype == "string" else [msgspec.json.decode(text)]


def check_view(body: PutView) -> tuple[Column, ...]:
    """The key columns of a lawful view.

    Raises:
        InvalidInput: no key or feature, names that clash or are reserved, a type that no key may have.
    """
    keys = tuple(Column(name=key, dtype="string", nullable=False) if isinstance(key, str) else key for key in body.keys)
    for what, given in (("keys", keys), ("features", body.features)):
        if not given:
            raise InvalidInput(f"a view needs {what}: at least one", path=f"$.{what}")
    for index, key in enumerate(keys):
        if key.dtype not in KEY_TYPES:
            raise InvalidInput(
                f"a key is of type {' or '.join(KEY_TYPES)}, {key.name} is {key.dtype}", path=f"$.keys[{index}]"
            )
    _check_names([*(key.name for key in keys), body.event_time], body.features)
    if body.ttl_s is not None and not 0 < body.ttl_s < 1e10:
        raise InvalidInput(f"ttl_s must be above 0 (None: for ever), got {body.ttl_s}", path="$.ttl_s")
    if not 1 <= body.online_depth <= MAX_DEPTH:
        raise InvalidInput(f"online_depth is between 1 and {MAX_DEPTH}, got {body.online_depth}", path="$.online_depth")
    return keys


def _check_names(others: list[str], features: tuple[Column, ...]) -> None:
    seen = set[str]()
    for name in others:
        if name in seen or not name:
            raise InvalidInput(f"names of keys and event time are unique, got {name!r} twice", path="$.keys")
        seen.add(name)
    for index, feature in enumerate(features):
        path = f"$.features[{index}].name"
        if feature.name in RESERVED or not feature.name:
            raise InvalidInput(f"{feature.name!r} is a reserved name", path=path, remedy="Take another.")
        if feature.name in seen:
            raise InvalidInput(f"{feature.name!r} names two columns of the view", path=path)
        seen.add(feature.name)


def check_evolution(before: FeatureView, after: FeatureView) -> None:
    """Whether a view that holds rows may become `after`: features may be added at the end, nothing else may change
    that rows depend on.

    Raises:
        Conflict: something else did.
    """
    if not before.rows:
        return
    for what in ("entity", "keys", "event_time"):
        if getattr(before, what) != getattr(after, what):
            raise Conflict(
                f"the {what} of {before.name} cannot change: it holds {before.rows:,} rows",
                path=f"$.{what}",
                remedy="Make a view of another name.",
            )
    kept = [(column.name, column.dtype) for column in after.features[: len(before.features)]]
    if kept != [(column.name, column.dtype) for column in before.features]:
        raise Conflict(
            f"features of {before.name} may only be added at the end, it has {', '.join(before.feature_names)}",
            path="$.features",
            remedy="Keep these first, in this order and of these types, or make a view of another name.",
        )


def check_service(body: PutService, views: dict[str, FeatureView]) -> None:
    """Whether a service takes what its views have.

    Raises:
        InvalidInput: an unknown view, feature or key; or a feature name that two views give.
    """
    if not body.views:
        raise InvalidInput("a service needs at least one view", path="$.views")
    seen = set[str]()
    for index, wanted in enumerate(body.views):
        path = f"$.views[{index}]"
        view = views.get(wanted.view)
        if view is None:
            raise InvalidInput(f"there is no view {wanted.view!r}", path=f"{path}.view")
        for name in wanted.features or view.feature_names:
            if name not in view.feature_names:
                raise InvalidInput(
                    f"{view.name} has no feature {name!r}",
                    path=f"{path}.features",
                    remedy=f"It has {', '.join(view.feature_names)}.",
                )
            if name in seen:
                raise InvalidInput(f"two views give a feature {name!r}", path=f"{path}.features")
            seen.add(name)
        unknown = sorted(set(wanted.keys) - set(view.key_names))
        if unknown:
            raise InvalidInput(f"{view.name} has no key {', '.join(unknown)}", path=f"{path}.keys")
