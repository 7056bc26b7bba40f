"""The route table made ready: for each endpoint its request type, its loaded models, its split. Never changed,
only replaced, so a request that began under one table ends under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, DType
from salus.server.dataplane.limits import Limits
from salus.server.dataplane.onnx_model import OnnxModel, Scorer
from salus.server.dataplane.rows import Asked, RowShape
from salus.serving.split import check_split, choose
from salus.serving.wire import EndpointRoute, FeatureLookup, RevisionRoute, RouteTable


class Served:
    """A revision as one endpoint uses it."""

    __slots__ = ("model", "revision", "scorer", "version")

    def __init__(self, route: RevisionRoute, scorer: Scorer) -> None:
        self.revision = route.revision
        self.model = route.model
        self.version = route.version
        self.scorer = scorer


class Lookup:
    """A feature look-up with the ways into a row: `keys(row)` to read, `setters` to write by feature name."""

    __slots__ = ("keys", "required", "setters", "ttl_s", "view")

    def __init__(self, lookup: FeatureLookup, shape: RowShape, required: frozenset[str]) -> None:
        self.view = lookup.view
        self.ttl_s = lookup.ttl_s
        self.keys = shape.getter(lookup.keys)
        self.setters = tuple((name, shape.setter(name)) for name in lookup.features)
        self.required = required.intersection(lookup.features)


class EndpointPlan:
    """How one endpoint answers."""

    def __init__(
        self,
        route: EndpointRoute,
        revisions: Mapping[str, RevisionRoute],
        models: Mapping[str, OnnxModel],
        limits: Limits,
    ) -> None:
        check_split(route.split, f"$.endpoints.{route.endpoint}.split")
        self.endpoint = route.endpoint
        self.workspace = route.workspace
        self.task = route.task
        live = [weight.revision for weight in route.split if weight.share > 0]
        hidden = [name for name in route.shadows if name not in live]
        mirrored = [name for name in route.shadows if name in live]
        columns = _merge(route, [models[name] for name in live], [models[name] for name in hidden])
        features = {name for lookup in route.lookups for name in lookup.features}
        asked = [item for item in columns if item.column.name not in features]
        keys = [name for lookup in route.lookups for name in lookup.keys]
        keys += [route.key_column] if route.key_column else []
        self.shape = RowShape(route.endpoint, asked, tuple(dict.fromkeys(keys)), route.lookups, limits.rows)
        needed = frozenset(i.column.name for i in columns if i.required and not i.column.nullable)
        self.lookups = tuple(Lookup(lookup, self.shape, needed) for lookup in route.lookups)
        self.key_of: Callable[[Any], tuple[Any, ...]] | None = (
            self.shape.getter((route.key_column,)) if route.key_column else None
        )
        self.served = {
            name: Served(revisions[name], Scorer(models[name], self.shape.getter)) for name in (*live, *hidden)
        }
        self.only = live[0] if len(live) == 1 else None
        self.hidden = tuple(hidden)
        self.mirrored = tuple(mirrored)
        self._split = route.split
        self._salt = route.salt

    def choose(self, key: str) -> str:
        """The revision that answers a row with `key`."""
        return self.only or choose(self._split, key, salt=self._salt)

    def warm_up(self) -> None:
        """Scores an example on every revision. What a model says to it, even an error, is no verdict on it."""
        rows = self.shape.blank_rows(2)
        for served in self.served.values():
            served.scorer.warm_up(rows)


def _merge(route: EndpointRoute, live: Sequence[OnnxModel], hidden: Sequence[OnnxModel]) -> list[Asked]:
    """The columns that all revisions together read, as a request must give them.

    A column must be there when every live revision reads it or one cannot do without; it may be null where each
    live revision that reads it takes null. What an `int` and a `float` revision both read comes as `int`.

    Raises:
        InvalidInput: two revisions read a column of one name as different types.
    """
    merged: dict[str, Asked] = {}
    readers: dict[str, list[tuple[Column, bool]]] = {}
    for model in live:
        for column in model.signature.inputs.columns:
            nullable = column.nullable and model.takes_null(column.name)
            readers.setdefault(column.name, []).append((column, nullable))
    for name, found in readers.items():
        nullable = all(takes for _, takes in found)
        dtype = _one_type(route.endpoint, [column for column, _ in found])
        required = not nullable or len(found) == len(live)
        merged[name] = Asked(column=Column(name=name, dtype=dtype, nullable=nullable), required=required)
    for model in hidden:
        for column in model.signature.inputs.columns:
            held = merged.get(column.name)
            if held is None:
                new = Column(name=column.name, dtype=column.dtype, nullable=True)
                merged[column.name] = Asked(column=new, required=False)
            else:
                _one_type(route.endpoint, [held.column, column])
    return list(merged.values())


def _one_type(endpoint: str, columns: Sequence[Column]) -> DType:
    types = {column.dtype for column in columns}
    if types == {"int", "float"}:
        return "int"
    if len(types) > 1:
        raise InvalidInput(
            f"{endpoint}: revisions read the column {columns[0].name!r} as {' and as '.join(sorted(types))}",
            remedy="Serve models of different signatures at different endpoints.",
        )
    return columns[0].dtype


class Plans:
    """Everything that a table says, ready to answer."""

    def __init__(self, table: RouteTable, models: Mapping[str, OnnxModel], limits: Limits) -> None:
        revisions = {route.revision: route for route in table.revisions}
        self.epoch = table.epoch
        self.table = table
        self.models = models
        self.endpoints = {
            (route.workspace, route.endpoint): EndpointPlan(route, revisions, models, limits)
            for route in table.endpoints
        }

    def find(self, workspace: str, endpoint: str) -> EndpointPlan | None:
        """The plan of an endpoint, or None where there is no such."""
        return self.endpoints.get((workspace, endpoint))


NO_PLANS = Plans(RouteTable(epoch=0), {}, Limits())
