"""Models through the service functions, on both databases."""

from __future__ import annotations

import pickle

import msgspec
import polars as pl
import pytest

from salus.data import ingest
from salus.data.model import FileRef, NewVersion
from salus.data.profile import profile
from salus.data.tables import write_parquet
from salus.kernel import ledger, lineage
from salus.kernel.errors import Conflict, Denied, InvalidInput, NotFound
from salus.kernel.policy import Answer, Gate
from salus.kernel.schema import Column, Schema, Signature
from salus.kernel.segments import Segments
from salus.registry import intake, service
from salus.registry.model import (
    CheckGates,
    Decide,
    MoveAlias,
    NewFile,
    NewGate,
    NewModelVersion,
    PutModel,
)
from salus.testing.fixtures import row_counts
from salus.tracking import service as tracking
from salus.tracking.model import StartRun

INPUTS = Schema(columns=(Column(name="temp", dtype="float"),))
SIGNATURE = Signature(
    inputs=INPUTS,
    outputs=Schema(columns=(Column(name="probability", dtype="float", nullable=False),)),
    task="binary",
)
WIDER = msgspec.structs.replace(SIGNATURE, inputs=Schema(columns=(*INPUTS.columns, Column(name="wind", dtype="float"))))


@pytest.fixture
def body(blobs):
    file = NewFile(path="model.onnx", digest=blobs.put(b"onnx bytes"))
    return NewModelVersion(flavour="onnx", files=(file,), signature=SIGNATURE)


@pytest.fixture
def register(database, blobs, actor, body):
    def register_(name="delay", **what):
        wanted = msgspec.structs.replace(body, **what)
        files = intake.inspect_files(blobs, wanted)
        return database.write(lambda tx: service.register_version(tx, actor, name, wanted, files))

    return register_


@pytest.fixture
def gate(database, actor):
    def gate_(version="1.0.0", **passed):
        found = tuple(NewGate(name=name, passed=value, evidence={"n": 9}) for name, value in passed.items())
        return database.write(lambda tx: service.check_gates(tx, actor, "delay", version, CheckGates(gates=found)))

    return gate_


def kinds(database):
    return [entry.kind for entry in database.read(lambda r: ledger.read(r))]


def test_versions_count_by_the_rules(database, actor, register):
    numbers = [
        register().version,
        register().version,
        register(bump="patch").version,
        register(signature=WIDER).version,
        register(signature=WIDER, bump="major").version,
    ]
    assert numbers == ["1.0.0", "1.1.0", "1.1.1", "2.0.0", "3.0.0"]
    with pytest.raises(InvalidInput) as caught:
        register(bump="minor")
    assert caught.value.path == "$.bump"
    found = database.read(lambda r: service.list_versions(r, actor, "delay"))
    assert [version.version for version in found] == numbers[::-1]
    assert database.read(lambda r: service.get_version(r, actor, "delay")).version == "3.0.0"
    assert database.read(lambda r: service.get_model(r, actor, "delay")).versions == 5


def test_the_digest_covers_all_content(register):
    one = register()
    assert register().digest == one.digest
    others = [
        register(params={"depth": 3}),
        register(metrics={"auc": 0.8}),
        register(tags={"a": "b"}),
        register(input_example=({"temp": 1.0},)),
        register(input_profile=profile(pl.DataFrame({"temp": [1.0]}))),
        register(signature=WIDER),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 7


def test_origin_becomes_lineage(database, blobs, actor, register):
    run = database.write(lambda tx: tracking.start_run(tx, actor, StartRun()))
    parquet = blobs.put(write_parquet(pl.DataFrame({"temp": [1.0]})))
    ingest.commit(database, Segments(blobs), actor, "flights", NewVersion(files=(FileRef(digest=parquet),)))
    register(run_id=run.id, datasets=("flights@1",), features=("weather",), pipeline_run="prun_1")
    graph = database.read(lambda r: lineage.graph(r, actor, "model_version:delay@1.0.0"))
    assert {(edge.upstream, edge.relation) for edge in graph.edges} == {
        ("dataset_version:flights@1", "trained_on"),
        (f"run:{run.id}", "logged_by"),
        ("feature_view:weather", "used_features"),
        ("pipeline_run:prun_1", "produced"),
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"files": ()}, "$.files"),
        ({"files": (NewFile(path="model.onnx", digest="blake3:" + "0" * 64),)}, "$.files[0].digest"),
        ({"files": (NewFile(path="../x.onnx", digest="blake3:" + "0" * 64),)}, "$.files[0].path"),
        ({"flavour": "not lawful"}, "$.flavour"),
        ({"signature": Signature(inputs=INPUTS, outputs=INPUTS, task="binary")}, "$.signature.outputs"),
        ({"input_example": ({"temp": "warm"},)}, "$.input_example[0].temp"),
        ({"input_example": ({},)}, "$.input_example[0].temp"),
        ({"input_profile": profile(pl.DataFrame({"wind": [1.0]}))}, "$.input_profile.columns[0].name"),
        ({"metrics": {"auc": float("nan")}}, "$.metrics.auc"),
        ({"params": {"deep": {"x": float("inf")}}}, "$.params.deep.x"),
        ({"run_id": "run_nothing"}, "$.run_id"),
        ({"datasets": ("flights@1",)}, "$.datasets[0]"),
        ({"datasets": ("flights",)}, "$.datasets[0]"),
        ({"features": ("a b",)}, "$.features[0]"),
    ],
)
def test_a_version_that_cannot_be_is_refused_and_nothing_is_written(database, register, change, path):
    before = row_counts(database.engine)
    with pytest.raises(InvalidInput) as caught:
        register(**change)
    assert caught.value.path == path
    assert row_counts(database.engine) == before


def test_a_size_that_is_not_and_a_path_twice_are_refused(blobs, register):
    digest = blobs.put(b"onnx bytes")
    with pytest.raises(InvalidInput, match="10 bytes, not 11"):
        register(files=(NewFile(path="model.onnx", digest=digest, size_bytes=11),))
    with pytest.raises(InvalidInput, match="two files"):
        register(files=(NewFile(path="model.onnx", digest=digest), NewFile(path="model.onnx", digest=digest)))
    with pytest.raises(InvalidInput, match=r"has an \.onnx file"):
        register(files=(NewFile(path="model.bin", digest=digest),))


def test_a_pickle_is_marked_whatever_its_name(blobs, register):
    file = NewFile(path="model.json", digest=blobs.put(pickle.dumps({"x": 1})))
    version = register(flavour="sklearn", files=(file,))
    assert version.executable
    assert not register().executable


def test_passing_gates_approve_and_a_failing_one_rejects(database, register, gate):
    register()
    assert gate(auc=True, fair=None).state == "candidate"
    approved = gate(fair=True)
    assert (approved.state, approved.approval.by, [g.name for g in approved.gates]) == (
        "approved",
        "salus/policy",
        ["auc", "fair"],
    )
    rejected = gate(auc=False)
    assert rejected.state == "rejected"
    assert "auc failed" in rejected.approval.reason
    assert kinds(database) == [
        "ModelChanged",
        "VersionRegistered",
        *["GateChecked"] * 3,
        "VersionApproved",
        "GateChecked",
        "VersionRejected",
    ]


def test_gates_are_named_once(register, gate, database, actor):
    register()
    with pytest.raises(InvalidInput):
        gate()
    twice = CheckGates(gates=(NewGate(name="a", passed=True), NewGate(name="a", passed=False)))
    with pytest.raises(InvalidInput):
        database.write(lambda tx: service.check_gates(tx, actor, "delay", "1.0.0", twice))


def decide(database, actor, decision, reason="looked at it", gate=None):
    body = Decide(decision=decision, reason=reason)
    return database.write(lambda tx: service.decide(tx, actor, "delay", "1.0.0", body, gate))


def test_a_person_stands_over_the_gates(database, actor, register, gate):
    database.write(lambda tx: service.put_model(tx, actor, "delay", PutModel(approval="person")))
    register()
    assert gate(auc=True).state == "candidate"
    assert decide(database, actor, "approved").state == "approved"
    assert gate(auc=False).state == "approved"
    assert decide(database, actor, "rejected").approval.by == "ann"
    with pytest.raises(InvalidInput):
        decide(database, actor, "approved", reason=" ")


def test_a_rule_may_refuse_an_approval(database, actor, register):
    register()
    rules = Gate()
    rules.register("models.approve", lambda question: Answer(allowed=False, by="freeze", reason="it is Friday"))
    with pytest.raises(Denied, match="it is Friday"):
        decide(database, actor, "approved", gate=rules)
    assert database.read(lambda r: service.get_version(r, actor, "delay")).state == "candidate"


def test_aliases_name_versions(database, actor, register, gate):
    def move(alias, version):
        return database.write(lambda tx: service.move_alias(tx, actor, "delay", alias, MoveAlias(version=version)))

    register()
    register()
    with pytest.raises(Conflict, match="candidate"):
        move("champion", "1.0.0")
    gate("1.0.0", auc=True)
    assert move("champion", "1.0.0").aliases == {"champion": "1.0.0"}
    assert move("challenger", "1.1.0").aliases == {"challenger": "1.1.0", "champion": "1.0.0"}
    found = database.read(lambda r: service.get_version(r, actor, "delay", "champion"))
    assert (found.version, found.aliases) == ("1.0.0", ("champion",))
    with pytest.raises(Conflict, match="is the champion"):
        decide(database, actor, "rejected")
    gate("1.1.0", auc=False)
    with pytest.raises(Conflict, match="rejected"):
        move("shadow", "1.1.0")
    for alias in ("1.2.3", "a b"):
        with pytest.raises(InvalidInput):
            move(alias, "1.0.0")
    with pytest.raises(NotFound):
        move("champion", "9.9.9")
    moved = database.read(lambda r: ledger.read(r, kinds=["AliasMoved"]))
    assert [(entry.data["alias"], entry.data["version"]) for entry in moved] == [
        ("champion", "1.0.0"),
        ("challenger", "1.1.0"),
    ]
