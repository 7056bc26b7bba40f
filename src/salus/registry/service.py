"""What one can do with models: one function for each use case, in the caller's transaction."""

from __future__ import annotations

import msgspec

from salus.data import service as data
from salus.data.model import check_name
from salus.data.model import version_node as dataset_node
from salus.kernel import lineage
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.policy import Gate, Question
from salus.kernel.sql import Reader, Transaction
from salus.registry import store
from salus.registry.model import (
    CHAMPION,
    AliasMoved,
    Approval,
    CheckGates,
    Decide,
    Decision,
    GateChecked,
    GateResult,
    Model,
    ModelChanged,
    ModelVersion,
    MoveAlias,
    NewModelVersion,
    PutModel,
    StoredFile,
    VersionApproved,
    VersionRegistered,
    VersionRejected,
    check_metrics,
    gates_in_words,
    next_version,
    parse_version,
    policy_state,
    version_digest,
    version_node,
)
from salus.registry.signatures import check_profile, check_rows, check_signature
from salus.tracking import service as tracking


def put_model(tx: Transaction, actor: Actor, name: str, body: PutModel) -> Model:
    """The model as `body` wants it, made if it is not there."""
    before = store.find_model(tx, actor.workspace, check_name(name, "name"))
    old = before or _new(name, tx.now_ms)
    chosen = {field: value for field, value in msgspec.structs.asdict(body).items() if value is not None}
    wanted = msgspec.structs.replace(old, **chosen)
    if before is not None and wanted == before:
        return before
    for index, gate in enumerate(wanted.required_gates):
        check_name(gate, f"$.required_gates[{index}]")
    saved = msgspec.structs.replace(wanted, updated_ms=tx.now_ms)
    store.save_model(tx, actor.workspace, saved)
    news = ModelChanged(model=name, approval=saved.approval, required_gates=saved.required_gates)
    tx.emit(actor, f"model:{name}", news, before=before, after=saved)
    return saved


def _new(name: str, now_ms: int) -> Model:
    return Model(
        name=name,
        description="",
        tags={},
        approval="gates",
        required_gates=(),
        latest_version=None,
        aliases={},
        versions=0,
        created_ms=now_ms,
        updated_ms=now_ms,
    )


def list_models(reader: Reader, actor: Actor, *, after: str = "", limit: int = 100) -> list[Model]:
    """Models by name, behind `after`."""
    return store.list_models(reader, actor.workspace, after, limit)


def get_model(reader: Reader, actor: Actor, name: str) -> Model:
    """The model. Raises `NotFound`."""
    found = store.find_model(reader, actor.workspace, name)
    if found is None:
        raise NotFound(f"there is no model {name}", path="name", remedy="Register a first version, or list the models.")
    return found


def register_version(
    tx: Transaction, actor: Actor, name: str, body: NewModelVersion, files: tuple[StoredFile, ...]
) -> ModelVersion:
    """A new version of the model `name`, which is made if it is not there. `files` come from `intake.inspect_files`.

    Raises:
        InvalidInput: the signature lacks what its task needs, the example or a profile does not fit it, a number is
            not finite, or a run or dataset version that it names does not exist.
    """
    _check_content(tx, actor, body)
    model = store.find_model(tx, actor.workspace, check_name(name, "name"))
    if model is None:
        model = put_model(tx, actor, name, PutModel())
    last = None
    if model.latest_version is not None:
        last = store.find_version(tx, actor.workspace, name, model.latest_version)
    number = next_version(
        model.latest_version, body.bump, same_signature=last is not None and last.signature == body.signature
    )
    version = _version(tx, actor, name, number, body, files)
    store.add_version(tx, actor.workspace, version)
    counted = msgspec.structs.replace(model, latest_version=number, versions=model.versions + 1, updated_ms=tx.now_ms)
    store.save_model(tx, actor.workspace, counted)
    _link(tx, actor, version)
    news = VersionRegistered(
        model=name,
        version=number,
        flavour=version.flavour,
        digest=version.digest,
        run_id=version.run_id,
        datasets=version.datasets,
        executable=version.executable,
    )
    tx.emit(actor, version.node, news, after=version.digest)
    return version


def _version(
    tx: Transaction, actor: Actor, name: str, number: str, body: NewModelVersion, files: tuple[StoredFile, ...]
) -> ModelVersion:
    content = {field: getattr(body, field) for field in body.__struct_fields__ if field not in ("files", "bump")}
    return ModelVersion(
        model=name,
        version=number,
        state="candidate",
        digest=version_digest(body, files),
        files=files,
        gates=(),
        approval=None,
        aliases=(),
        created_ms=tx.now_ms,
        created_by=actor.principal,
        **content,
    )


def _check_content(reader: Reader, actor: Actor, body: NewModelVersion) -> None:
    check_name(body.flavour, "$.flavour")
    check_signature(body.signature)
    check_rows(body.signature.inputs, body.input_example, "$.input_example")
    check_profile(body.signature.inputs, body.input_profile, "$.input_profile")
    check_profile(body.signature.outputs, body.output_profile, "$.output_profile")
    check_metrics(body.metrics)
    for index, feature in enumerate(body.features):
        check_name(feature, f"$.features[{index}]")
    if body.run_id is not None:
        try:
            tracking.get_run(reader, actor, body.run_id)
        except NotFound as error:
            raise InvalidInput(error.detail, path="$.run_id", remedy=error.remedy) from error
    for index, text in enumerate(body.datasets):
        _check_dataset(reader, actor, text, f"$.datasets[{index}]")


def _check_dataset(reader: Reader, actor: Actor, text: str, path: str) -> None:
    name, at, number = text.rpartition("@")
    if not at or not name or not number.isdecimal() or len(number) > 9:
        raise InvalidInput(f"a dataset version is named name@number, got {text[:140]!r}", path=path)
    try:
        data.get_version(reader, actor, name, int(number))
    except NotFound as error:
        raise InvalidInput(error.detail, path=path, remedy="Commit the data first.") from error


def _link(tx: Transaction, actor: Actor, version: ModelVersion) -> None:
    sources = [(f"feature_view:{view}", "used_features") for view in version.features]
    for text in version.datasets:
        dataset, _, number = text.rpartition("@")
        sources.append((dataset_node(dataset, int(number)), "trained_on"))
    if version.run_id:
        sources.append((f"run:{version.run_id}", "logged_by"))
    if version.pipeline_run:
        sources.append((f"pipeline_run:{version.pipeline_run}", "produced"))
    for upstream, relation in sources:
        lineage.link(tx, actor, upstream=upstream, downstream=version.node, relation=relation)


def get_version(reader: Reader, actor: Actor, name: str, version: str | None = None) -> ModelVersion:
    """A version by its number (`1.0.0`) or an alias (`champion`); the highest where `version` is None.

    Raises:
        NotFound: there is no such model, version or alias.
    """
    model = get_model(reader, actor, name)
    asked = version if version is not None else model.latest_version
    number = model.aliases.get(asked, asked) if asked is not None else None
    found = store.find_version(reader, actor.workspace, name, number) if number is not None else None
    if found is None:
        raise NotFound(
            f"the model {name} has no version {asked}" if asked else f"the model {name} has no version yet",
            path="version",
            remedy=f"List them: GET /api/v1/models/{name}/versions.",
        )
    return found


def list_versions(reader: Reader, actor: Actor, name: str) -> list[ModelVersion]:
    """All versions, the highest number first. Raises `NotFound`."""
    get_model(reader, actor, name)
    return store.list_versions(reader, actor.workspace, name)


def check_gates(tx: Transaction, actor: Actor, name: str, version: str, body: CheckGates) -> ModelVersion:
    """Records what gates found, and lets the model's policy decide, unless a person has decided already.

    Raises:
        InvalidInput: no gate, or one twice.
    """
    before = get_version(tx, actor, name, version)
    names = [check_name(gate.name, f"$.gates[{index}].name") for index, gate in enumerate(body.gates)]
    if not names or len(set(names)) < len(names):
        raise InvalidInput("gates are checked by name: at least one, none twice", path="$.gates")
    new = tuple(
        GateResult(
            name=gate.name,
            passed=gate.passed,
            reason=gate.reason,
            evidence=gate.evidence,
            at_ms=tx.now_ms,
            by=actor.principal,
        )
        for gate in body.gates
    )
    gates = (*(gate for gate in before.gates if gate.name not in names), *new)
    checked = msgspec.structs.replace(before, gates=gates)
    for gate in new:
        news = GateChecked(model=name, version=before.version, gate=gate.name, passed=gate.passed, reason=gate.reason)
        tx.emit(actor, before.node, news, before=before.gates, after=gates)
    decided = _decide_by_policy(tx, actor, get_model(tx, actor, name), checked)
    store.save_decision(tx, actor.workspace, decided)
    return decided


def _decide_by_policy(tx: Transaction, actor: Actor, model: Model, version: ModelVersion) -> ModelVersion:
    if version.approval is not None and not version.approval.by_policy:
        return version
    state = policy_state(model, version.gates)
    if state == version.state:
        return version
    if state == "candidate":
        return msgspec.structs.replace(version, state=state, approval=None)
    reason = gates_in_words(version.gates)
    return _decided(tx, actor, version, state, reason, by_policy=True)


def decide(
    tx: Transaction, actor: Actor, name: str, version: str, body: Decide, gate: Gate | None = None
) -> ModelVersion:
    """A person approves or rejects a version; it stands over what the gates say.

    Raises:
        InvalidInput: no reason is given.
        Denied: a rule of the gate `models.approve` refuses.
    """
    before = get_version(tx, actor, name, version)
    if not body.reason.strip():
        raise InvalidInput("a decision has a reason", path="$.reason", remedy="Say in a sentence why.")
    if gate is not None and body.decision == "approved":
        evidence = {"gates": msgspec.to_builtins(before.gates), "reason": body.reason}
        gate.ask(Question(actor=actor, action="models.approve", subject=before.node, evidence=evidence))
    if body.decision == "rejected" and CHAMPION in before.aliases:
        raise Conflict(
            f"{name}@{before.version} is the champion",
            remedy="Let another version be the champion first.",
        )
    decided = _decided(tx, actor, before, body.decision, body.reason, by_policy=False)
    store.save_decision(tx, actor.workspace, decided)
    return decided


def _decided(
    tx: Transaction, actor: Actor, version: ModelVersion, decision: Decision, reason: str, *, by_policy: bool
) -> ModelVersion:
    by = "salus/policy" if by_policy else actor.principal
    approval = Approval(decision=decision, reason=reason, by=by, by_policy=by_policy, at_ms=tx.now_ms)
    decided = msgspec.structs.replace(version, state=decision, approval=approval)
    kind = VersionApproved if decision == "approved" else VersionRejected
    news = kind(model=version.model, version=version.version, by_policy=by_policy, reason=reason)
    tx.emit(actor, version.node, news, before=version.approval, after=approval)
    return decided


def move_alias(
    tx: Transaction, actor: Actor, name: str, alias: str, body: MoveAlias, gate: Gate | None = None
) -> Model:
    """Lets `alias` name a version. Only an approved one can be the champion, and none that was rejected has a name.

    Raises:
        Conflict: the version's state forbids it.
        Denied: a rule of the gate `models.alias` refuses.
    """
    check_name(alias, "alias")
    if parse_version(alias) is not None:
        raise InvalidInput("an alias does not look like a version", path="alias")
    version = get_version(tx, actor, name, body.version)
    if version.state == "rejected" or (alias == CHAMPION and version.state != "approved"):
        raise Conflict(
            f"{name}@{version.version} is {version.state}: it cannot be {alias}",
            path="$.version",
            remedy="Let its gates pass, or approve it with a reason.",
        )
    previous = store.aliases_of(tx, actor.workspace, name).get(alias)
    if previous == version.version:
        return get_model(tx, actor, name)
    if gate is not None:
        evidence = {"alias": alias, "previous": previous}
        gate.ask(Question(actor=actor, action="models.alias", subject=version.node, evidence=evidence))
    store.move_alias(tx, actor.workspace, name, alias, version.version, actor.principal)
    news = AliasMoved(model=name, alias=alias, version=version.version, previous=previous)
    before = None if previous is None else version_node(name, previous)
    tx.emit(actor, f"model:{name}", news, before=before, after=version.node)
    return get_model(tx, actor, name)
