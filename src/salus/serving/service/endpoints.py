"""Endpoints: made, described, shadowed; and the route table that data planes answer by."""

from __future__ import annotations

from salus.kernel import lineage
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.ids import new_id
from salus.kernel.sql import Reader, Transaction
from salus.registry import service as registry
from salus.registry.model import ModelVersion
from salus.serving.model.endpoints import (
    Endpoint,
    EndpointChanged,
    PutEndpoint,
    PutShadows,
    Revision,
    ShadowsChanged,
    check_name,
    check_signature,
    check_types,
)
from salus.serving.model.rollouts import EndpointDetail, route_of, split_of
from salus.serving.store import endpoints as store
from salus.serving.store import rollouts as rollout_store
from salus.serving.wire import ModelFile, RouteTable


def put_endpoint(tx: Transaction, actor: Actor, name: str, body: PutEndpoint) -> Endpoint:
    """The endpoint as `body` says, made if it is not there.

    Raises:
        Conflict: it serves a model of another task.
    """
    check_name(name, "name")
    known = store.find(tx, actor.workspace, name)
    if known is None:
        made = _new_endpoint(tx, actor, name, body)
        store.insert(tx, made)
        _announce(tx, actor, made, None)
        return made
    if body.task is not None and known.live is not None and body.task != known.task:
        raise Conflict(
            f"the endpoint {name} serves a {known.task} model, its task cannot become {body.task}",
            path="$.task",
            remedy="Make another endpoint.",
        )
    changed = store.with_changes(
        known,
        tx.now_ms,
        task=body.task or known.task,
        key_column=body.key_column,
        lookups=body.lookups,
        label_delay_s=body.label_delay_s,
        description=body.description,
    )
    if store.with_changes(changed, known.updated_ms) == known:
        return known
    store.update(tx, changed)
    store.advance_epoch(tx, actor.workspace)
    _announce(tx, actor, changed, known)
    return changed


def _new_endpoint(tx: Transaction, actor: Actor, name: str, body: PutEndpoint) -> Endpoint:
    return Endpoint(
        workspace=actor.workspace,
        name=name,
        task=body.task,
        key_column=body.key_column,
        lookups=body.lookups,
        label_delay_s=body.label_delay_s,
        description=body.description,
        salt=new_id("salt")[-10:],
        live=None,
        previous=None,
        shadows=(),
        created_ms=tx.now_ms,
        updated_ms=tx.now_ms,
    )


def _announce(tx: Transaction, actor: Actor, endpoint: Endpoint, before: Endpoint | None) -> None:
    event = EndpointChanged(
        name=endpoint.name,
        task=endpoint.task,
        key_column=endpoint.key_column,
        label_delay_s=endpoint.label_delay_s,
    )
    tx.emit(actor, endpoint.subject, event, before=before, after=endpoint)


def list_endpoints(reader: Reader, actor: Actor) -> list[Endpoint]:
    """All endpoints by name."""
    return reader.records(Endpoint, store.select_endpoints(actor.workspace))


def get_endpoint(reader: Reader, actor: Actor, name: str) -> Endpoint:
    """The endpoint. Raises `NotFound`."""
    found = store.find(reader, actor.workspace, name)
    if found is None:
        raise NotFound(
            f"there is no endpoint {name!r}",
            path="endpoint",
            remedy=f"Make it: salus endpoints deploy {name} MODEL@VERSION. See all: salus endpoints list.",
        )
    return found


def describe_endpoint(reader: Reader, actor: Actor, name: str) -> EndpointDetail:
    """The endpoint with its split, revisions and the rollout under way. Raises `NotFound`."""
    endpoint = get_endpoint(reader, actor, name)
    rollout = rollout_store.under_way(reader, actor.workspace, name)
    split, shadows = split_of(endpoint, rollout)
    return EndpointDetail(
        endpoint=endpoint,
        split=split,
        shadows=shadows,
        revisions=store.revisions_of(reader, actor.workspace, name),
        rollout=rollout,
        serving=bool(split),
    )


def route_table(reader: Reader, actor: Actor) -> RouteTable:
    """All that a data plane of the workspace needs to answer."""
    under_way = rollout_store.all_under_way(reader, actor.workspace)
    routes = [
        route
        for endpoint in list_endpoints(reader, actor)
        if (route := route_of(endpoint, under_way.get(endpoint.name))) is not None
    ]
    used = {weight.revision for route in routes for weight in route.split}
    used |= {revision for route in routes for revision in route.shadows}
    found = store.revisions_by_id(reader, actor.workspace, used)
    return RouteTable(
        epoch=store.epoch(reader, actor.workspace),
        endpoints=tuple(routes),
        revisions=tuple(found[revision].route() for revision in sorted(used)),
    )


def routes_after(reader: Reader, actor: Actor, epoch: int) -> RouteTable | None:
    """The route table, or None while it is still that of `epoch`."""
    if store.epoch(reader, actor.workspace) == epoch:
        return None
    return route_table(reader, actor)


def put_shadows(tx: Transaction, actor: Actor, name: str, body: PutShadows) -> EndpointDetail:
    """From now on exactly these versions answer every request unseen.

    Raises:
        InvalidInput: a version does not fit the requests, or is not written `model@version`.
    """
    endpoint = get_endpoint(tx, actor, name)
    if endpoint.live is None:
        raise Conflict(f"the endpoint {name} serves nothing yet that could be shadowed", remedy="Deploy first.")
    revisions = []
    for index, text in enumerate(body.versions):
        model, at, version = text.rpartition("@")
        if not at or not model or not version:
            raise InvalidInput(f"a version is model@version, got {text!r}", path=f"$.versions[{index}]")
        found = registry.get_version(tx, actor, model, version)
        revisions.append(revision_of(tx, actor, endpoint, found, path=f"$.versions[{index}]"))
    changed = store.with_changes(
        endpoint, tx.now_ms, shadows=tuple(dict.fromkeys(revision.id for revision in revisions))
    )
    if changed.shadows != endpoint.shadows:
        store.update(tx, changed)
        store.advance_epoch(tx, actor.workspace)
        event = ShadowsChanged(
            endpoint=name,
            revisions=changed.shadows,
            versions=tuple(f"{revision.model}@{revision.version}" for revision in revisions),
        )
        tx.emit(actor, endpoint.subject, event, before=endpoint, after=changed)
    return describe_endpoint(tx, actor, name)


def revision_of(tx: Transaction, actor: Actor, endpoint: Endpoint, version: ModelVersion, *, path: str) -> Revision:
    """The version as the endpoint serves it, made if it was never served here.

    Raises:
        InvalidInput: the data plane cannot run it, or it cannot answer the requests that come in now.
    """
    if version.flavour != "onnx":
        raise InvalidInput(
            f"the data plane runs ONNX models, {version.name}@{version.version} is of the flavour {version.flavour}",
            path=path,
            remedy="Convert the model (skl2onnx, onnxmltools) and register it as flavour 'onnx'.",
        )
    champion = None
    if endpoint.live is not None:
        champion = store.revisions_by_id(tx, actor.workspace, {endpoint.live})[endpoint.live].signature
    check_signature(champion, version.signature, endpoint.lookups, path=path)
    known = store.find_revision(tx, actor.workspace, endpoint.name, version.name, version.version)
    if known is not None:
        return known
    for earlier in store.revisions_of(tx, actor.workspace, endpoint.name):
        check_types(earlier.signature, version.signature, path=path)
    made = Revision(
        id=new_id("rev"),
        workspace=actor.workspace,
        endpoint=endpoint.name,
        model=version.name,
        version=version.version,
        format="onnx",
        files=tuple(
            ModelFile(path=file.path, digest=file.digest, size_bytes=file.size_bytes) for file in version.files
        ),
        signature=version.signature,
        created_ms=tx.now_ms,
        created_by=actor.principal,
    )
    tx.insert(store.revisions, made)
    lineage.link(
        tx,
        actor,
        upstream=f"model_version:{version.name}@{version.version}",
        downstream=endpoint.subject,
        relation="deployed_as",
    )
    return made
