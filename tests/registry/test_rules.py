"""The pure rules of the registry: numbers, policy, signatures, files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Schema, Signature
from salus.registry.client import infer_signature
from salus.registry.intake import runs_code
from salus.registry.model import (
    GateResult,
    Model,
    check_file_path,
    next_version,
    parse_version,
    policy_state,
)
from salus.registry.signatures import check_rows, check_signature

FLOAT = Column(name="probability", dtype="float", nullable=False)
INPUTS = Schema(
    columns=(
        Column(name="temp", dtype="float"),
        Column(name="seats", dtype="int", nullable=False),
        Column(name="origin", dtype="string"),
    )
)
ROW = {"temp": 1.5, "seats": 3, "origin": "EWR"}


@given(st.lists(st.tuples(st.sampled_from(["auto", "major", "minor", "patch"]), st.booleans()), max_size=12))
def test_numbers_only_grow_and_a_new_signature_is_a_new_major(bumps):
    last = None
    for bump, same in bumps:
        if last is not None and not same and bump in ("minor", "patch"):
            with pytest.raises(InvalidInput):
                next_version(last, bump, same_signature=same)
            continue
        new = next_version(last, bump, same_signature=same)
        if last is None:
            assert new == "1.0.0"
        else:
            assert parse_version(new) > parse_version(last)
            assert (parse_version(new)[0] > parse_version(last)[0]) == (not same or bump == "major")
        last = new


def model(**what):
    values = {"approval": "gates", "required_gates": (), **what}
    return Model(
        name="m",
        description="",
        tags={},
        latest_version=None,
        aliases={},
        versions=0,
        created_ms=0,
        updated_ms=0,
        **values,
    )


def gates(**passed):
    return tuple(
        GateResult(name=name, passed=value, reason="", evidence={}, at_ms=0, by="ann") for name, value in passed.items()
    )


@pytest.mark.parametrize(
    ("rules", "found", "state"),
    [
        ({}, {}, "candidate"),
        ({}, {"auc": True}, "approved"),
        ({}, {"auc": True, "fair": None}, "candidate"),
        ({}, {"auc": True, "fair": False}, "rejected"),
        ({"required_gates": ("auc", "fair")}, {"auc": True}, "candidate"),
        ({"required_gates": ("auc", "fair")}, {"auc": True, "fair": True}, "approved"),
        ({"approval": "person"}, {"auc": True}, "candidate"),
        ({"approval": "person"}, {"auc": False}, "rejected"),
    ],
)
def test_the_policy_decides_by_the_gates(rules, found, state):
    assert policy_state(model(**rules), gates(**found)) == state


@pytest.mark.parametrize(
    ("signature", "path"),
    [
        (Signature(inputs=Schema(columns=()), outputs=Schema(columns=(FLOAT,))), "$.signature.inputs.columns"),
        (Signature(inputs=INPUTS, outputs=Schema(columns=())), "$.signature.outputs.columns"),
        (Signature(inputs=INPUTS, outputs=INPUTS, task="binary"), "$.signature.outputs"),
        (Signature(inputs=INPUTS, outputs=Schema(columns=(FLOAT,)), task="regression"), "$.signature.outputs"),
        (Signature(inputs=INPUTS, outputs=Schema(columns=(FLOAT,)), task="multiclass"), "$.signature.outputs"),
    ],
)
def test_a_signature_that_lacks_columns_is_refused(signature, path):
    with pytest.raises(InvalidInput) as caught:
        check_signature(signature)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"wind": 1}, "$[1].wind"),
        ({"temp": "warm"}, "$[1].temp"),
        ({"temp": float("nan")}, "$[1].temp"),
        ({"temp": True}, "$[1].temp"),
        ({"seats": 1.5}, "$[1].seats"),
        ({"seats": None}, "$[1].seats"),
        ({"origin": 7}, "$[1].origin"),
    ],
)
def test_an_example_that_does_not_fit_is_named(change, path):
    check_rows(INPUTS, [ROW, {**ROW, "temp": None}], "$")
    with pytest.raises(InvalidInput) as caught:
        check_rows(INPUTS, [ROW, {**ROW, **change}], "$")
    assert caught.value.path == path


def test_a_missing_column_of_an_example_is_named():
    with pytest.raises(InvalidInput, match="'origin' is missing"):
        check_rows(INPUTS, [{"temp": 1, "seats": 1}], "$")


def test_a_signature_is_inferred_from_tables():
    found = infer_signature({"temp": [1.0, None], "origin": ["a", "b"]}, ["cat", "dog"], task="multiclass")
    assert [(column.name, column.dtype, column.nullable) for column in found.inputs.columns] == [
        ("temp", "float", True),
        ("origin", "string", False),
    ]
    assert found.outputs.names == ("cat", "dog")
    assert infer_signature({"x": [1]}, {"probability": [0.5]}).outputs.names == ("probability",)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a\\b", "x\n", "a/"])
def test_a_file_has_a_plain_path(path):
    assert check_file_path("weights/model v1.onnx", "$") == "weights/model v1.onnx"
    with pytest.raises(InvalidInput):
        check_file_path(path, "$")


@pytest.mark.parametrize(
    ("path", "start", "executable"),
    [
        ("model.onnx", b"\x08\x09\x12", False),
        ("weights.safetensors", b"\x10\x00", False),
        ("model.PKL", b"", True),
        ("model.onnx", b"\x80\x05\x95", True),
        ("model.txt", b"PK\x03\x04 archive/data.pkl", True),
        ("train.py", b"", True),
    ],
)
def test_what_runs_when_it_is_loaded_is_marked(path, start, executable):
    assert runs_code(path, start) is executable
