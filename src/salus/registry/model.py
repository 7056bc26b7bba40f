"""Registered models: versions that never change, what they were made from, and whether they may serve."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from salus.data.model import Profile
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Signature
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value, digest_of

State = Literal["candidate", "approved", "rejected"]
Decision = Literal["approved", "rejected"]
Bump = Literal["auto", "major", "minor", "patch"]
ApprovalRule = Literal["gates", "person"]
"""Who approves: `gates`: passing gates do by themselves; `person`: somebody has to, whatever the gates say."""

CHAMPION = "champion"
MAX_FILES = 1_000
MAX_EXAMPLE_ROWS = 100
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
_FILE = re.compile(r"[A-Za-z0-9_][\w .+=,()-]*(/[A-Za-z0-9_][\w .+=,()-]*)*", re.ASCII)


class Model(Record):
    """A model by its name. `aliases` maps a name such as `champion` to a version."""

    name: str
    description: str
    tags: dict[str, str]
    approval: ApprovalRule
    required_gates: tuple[str, ...]
    latest_version: str | None
    aliases: dict[str, str]
    versions: int
    created_ms: int
    updated_ms: int


class StoredFile(Record):
    """A file of a version. `executable`: loading it runs code (a pickle), so only sandboxed workers load it."""

    path: str
    digest: str
    size_bytes: int
    executable: bool = False


class GateResult(Record):
    """What one check found. `passed` None: cannot tell (yet)."""

    name: str
    passed: bool | None
    reason: str
    evidence: dict[str, Any]
    at_ms: int
    by: str


class Approval(Record):
    """Who decided about a version, and why."""

    decision: Decision
    reason: str
    by: str
    by_policy: bool
    at_ms: int


class ModelVersion(Record):
    """A version of a model. Its content never changes (`digest` covers it); gates, state and aliases come to it.

    `datasets` are named `flights@1`, `features` are views, `metrics` are finite. `reference` is the digest of rows
    (Parquet: inputs, outputs, label, event time) that show the model as it should be: what it is monitored against.
    """

    model: str
    version: str
    flavour: str
    state: State
    digest: str
    files: tuple[StoredFile, ...]
    signature: Signature
    metrics: dict[str, float]
    params: dict[str, Any]
    datasets: tuple[str, ...]
    features: tuple[str, ...]
    run_id: str | None
    pipeline_run: str | None
    input_example: tuple[dict[str, Any], ...]
    input_profile: Profile | None
    output_profile: Profile | None
    gates: tuple[GateResult, ...]
    approval: Approval | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created_ms: int
    created_by: str
    reference: str | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    @property
    def node(self) -> str:
        """Its name in lineage and ledger: `model_version:flight-delay@1.0.0`."""
        return version_node(self.model, self.version)

    @property
    def executable(self) -> bool:
        """Whether loading it runs code."""
        return any(file.executable for file in self.files)


class PutModel(Value):
    """What a model shall be. A field that is None stays as it is."""

    description: str | None = None
    tags: dict[str, str] | None = None
    approval: ApprovalRule | None = None
    required_gates: tuple[str, ...] | None = None


class NewFile(Value):
    """A file that was uploaded as a blob, and its path within the model."""

    path: str
    digest: str
    size_bytes: int | None = None


class NewModelVersion(Value):
    """A version to register. `bump` auto: major where the signature is another than the last one's, else minor."""

    flavour: str
    files: tuple[NewFile, ...]
    signature: Signature
    run_id: str | None = None
    pipeline_run: str | None = None
    datasets: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    params: dict[str, Any] = {}
    input_example: tuple[dict[str, Any], ...] = ()
    input_profile: Profile | None = None
    output_profile: Profile | None = None
    reference: str | None = None
    bump: Bump = "auto"
    tags: dict[str, str] = {}


class NewGate(Value):
    """What a check found. `passed` None: cannot tell."""

    name: str
    passed: bool | None
    reason: str = ""
    evidence: dict[str, Any] = {}


class CheckGates(Value):
    """Results of gates; a gate that was checked before is checked anew."""

    gates: tuple[NewGate, ...]


class Decide(Value):
    """A person's decision about a version, with a reason."""

    decision: Decision
    reason: str


class MoveAlias(Value):
    """Which version an alias shall name."""

    version: str


class ModelChanged(Event):
    """A model was declared or changed."""

    model: str
    approval: str
    required_gates: tuple[str, ...]


class VersionRegistered(Event):
    """A model has a new version."""

    model: str
    version: str
    flavour: str
    digest: str
    run_id: str | None
    datasets: tuple[str, ...]
    executable: bool


class GateChecked(Event):
    """A gate was checked."""

    model: str
    version: str
    gate: str
    passed: bool | None
    reason: str


class VersionApproved(Event):
    """A version may serve."""

    model: str
    version: str
    by_policy: bool
    reason: str


class VersionRejected(Event):
    """A version may not serve."""

    model: str
    version: str
    by_policy: bool
    reason: str


class AliasMoved(Event):
    """An alias names another version."""

    model: str
    alias: str
    version: str
    previous: str | None


def version_node(model: str, version: str) -> str:
    """The name of a version in lineage and ledger.

    >>> version_node("flight-delay", "1.0.0")
    'model_version:flight-delay@1.0.0'
    """
    return f"model_version:{model}@{version}"


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch of a semantic version, or None when it is none.

    >>> parse_version("1.20.3"), parse_version("01.2.3"), parse_version("champion")
    ((1, 20, 3), None, None)
    """
    found = _VERSION.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def next_version(last: str | None, bump: Bump, *, same_signature: bool) -> str:
    """The number that follows `last` (None: the model has no version yet).

    The signature is the interface: callers of 1.x can rely on it, so another one needs a new major number.
    Source: T. Preston-Werner, Semantic Versioning 2.0.0, sections 6 to 8.

    Raises:
        InvalidInput: the signature is another, and `bump` asks for less than major.

    >>> next_version("1.4.0", "auto", same_signature=True), next_version("1.4.0", "auto", same_signature=False)
    ('1.5.0', '2.0.0')
    """
    parts = None if last is None else parse_version(last)
    if parts is None:
        return "1.0.0"
    major, minor, patch = parts
    if not same_signature and bump in ("minor", "patch"):
        raise InvalidInput(
            f"the signature is another than that of {last}: that is a new major version, not a {bump} one",
            path="$.bump",
            remedy="Register with bump 'major' or 'auto', or keep the signature.",
        )
    if bump == "major" or not same_signature:
        return f"{major + 1}.0.0"
    return f"{major}.{minor}.{patch + 1}" if bump == "patch" else f"{major}.{minor + 1}.0"


def policy_state(model: Model, gates: tuple[GateResult, ...]) -> State:
    """What the model's policy says of a version with these gates: one that failed rejects it; when all passed and
    none that is required is missing, it is approved, unless a person has to."""
    if any(gate.passed is False for gate in gates):
        return "rejected"
    passed = {gate.name for gate in gates if gate.passed}
    complete = bool(gates) and len(passed) == len(gates) and passed.issuperset(model.required_gates)
    return "approved" if complete and model.approval == "gates" else "candidate"


def gates_in_words(gates: tuple[GateResult, ...]) -> str:
    """What the gates said, for the reason of a decision."""
    words = {True: "passed", False: "failed", None: "cannot tell"}
    return "; ".join(
        f"{gate.name} {words[gate.passed]}" + (f" ({gate.reason})" if gate.reason else "") for gate in gates
    )


def version_digest(body: NewModelVersion, files: tuple[StoredFile, ...]) -> str:
    """The digest over all content of a version: its files, signature, origin, numbers, example and profiles.

    Raises:
        InvalidInput: a number in it is NaN or infinite; `path` names it.
    """
    content = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("files", "bump")}
    return digest_of({**content, "files": sorted((file.path, file.digest) for file in files)})


def check_file_path(path: str, where: str) -> str:
    """A relative path of plain names, if it is one. Raises `InvalidInput`."""
    if len(path) > 250 or not _FILE.fullmatch(path):
        raise InvalidInput(
            f"a file's path is plain names joined by '/', got {path[:100]!r}",
            path=where,
            remedy="Begin each name with a letter, digit or '_'; no '..', no leading '/'.",
        )
    return path


def check_metrics(metrics: dict[str, float]) -> None:
    """Refuses metrics that are no finite numbers. Raises `InvalidInput`."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise InvalidInput(f"a metric is a finite number, got {value}", path=f"$.metrics.{name}")
