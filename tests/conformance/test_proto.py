"""The API's description: lint, comments, generated code that is up to date, numbers that stay."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from verifier.v1 import verifier_pb2 as pb
from verifier.v1 import verifier_pb2_grpc
from verifier.vocabulary import Phase, RevocationReason, Verdict

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto"
FILE = "verifier/v1/verifier.proto"
ADMIN = ("audit", "lifecycle", "node", "publication", "types", "usage")
MODULES = {
    FILE: pb,
    **{f"verifier/admin/v1/{name}.proto": importlib.import_module(f"verifier.admin.v1.{name}_pb2") for name in ADMIN},
}
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")


@pytest.fixture(scope="module")
def every(tmp_path_factory) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """What protoc makes of the files now, with comments."""
    tools = pytest.importorskip("grpc_tools")
    out = tmp_path_factory.mktemp("proto") / "set.bin"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{Path(tools.__file__).parent / '_proto'}",
         "--include_source_info", f"--descriptor_set_out={out}", *MODULES],
        check=True, timeout=60,
    )
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file}


@pytest.fixture(scope="module")
def fresh(every) -> descriptor_pb2.FileDescriptorProto:
    """The file of the Verify API."""
    return every[FILE]


def test_every_file_is_looked_at():
    assert set(MODULES) == {path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto")}


@pytest.mark.parametrize("name", MODULES)
def test_generated_code_is_that_of_the_file(every, name: str):
    bare = descriptor_pb2.FileDescriptorProto()
    bare.CopyFrom(every[name])
    bare.ClearField("source_code_info")
    for message in bare.message_type:  # protoc writes these into descriptor sets only
        for field in (*message.field, *(field for inner in message.nested_type for field in inner.field)):
            field.ClearField("json_name")
    committed = descriptor_pb2.FileDescriptorProto.FromString(MODULES[name].DESCRIPTOR.serialized_pb)
    committed.ClearField("source_code_info")
    assert bare == committed, "run: make proto"


def test_generated_stubs_have_every_method(fresh):
    [service] = fresh.service
    servicer = verifier_pb2_grpc.VerifierServiceServicer
    assert {"Verify", "VerifyBatch"} == {method.name for method in service.method}
    assert all(hasattr(servicer, method.name) for method in service.method)


@pytest.mark.skipif(BUF is None, reason="buf is not installed (pip install buf-bin)")
def test_buf_lint_is_clean():
    lint = subprocess.run([str(BUF), "lint", str(PROTO)], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (lint.returncode, lint.stdout + lint.stderr)


@pytest.mark.parametrize("name", MODULES)
def test_everything_is_commented(every, name: str):
    """buf checks the same; this holds where buf is not installed."""
    fresh = every[name]
    commented = {tuple(place.path) for place in fresh.source_code_info.location if place.leading_comments.strip()}
    places = {}
    for i, message in enumerate(fresh.message_type):
        places[message.name] = (4, i)
        places |= {f"{message.name}.{field.name}": (4, i, 2, j) for j, field in enumerate(message.field)}
    for i, enum in enumerate(fresh.enum_type):
        places[enum.name] = (5, i)
        places |= {value.name: (5, i, 2, j) for j, value in enumerate(enum.value)}
    for i, service in enumerate(fresh.service):
        places[service.name] = (6, i)
        places |= {method.name: (6, i, 2, j) for j, method in enumerate(service.method)}
    assert [] == [name for name, path in places.items() if path not in commented]
    assert len(places) >= 10


@pytest.mark.parametrize(("python", "wire", "prefix"), [
    (Verdict, pb.Verdict, "VERDICT_"), (Phase, pb.Phase, "PHASE_"),
    (RevocationReason, pb.RevocationReason, "REVOCATION_REASON_"),
])
def test_enumerations_have_the_same_numbers(python, wire, prefix):
    assert {prefix + member.name: member.value for member in python} == dict(wire.items())


def test_numbers_that_keyrings_and_callers_rely_on():
    """Fields are never renumbered or retyped: keyrings hold them encoded, and callers outlive releases."""
    assert {
        "key": 1, "required_scopes": 2, "client_address": 3, "min_revision": 4, "probe": 5,
    } == _numbers(pb.VerifyRequest)
    assert {
        "verdict": 1, "phase": 2, "revision": 3, "staleness_ms": 4, "client_id": 8, "key_id": 9, "version": 10,
        "not_before": 11, "expires_at": 12, "superseded_at": 13, "superseded_by": 14, "revocation_reason": 15,
        "scopes": 16, "metadata": 17,
    } == _numbers(pb.VerifyResponse)
    assert {"requests": 1} == _numbers(pb.VerifyBatchRequest)
    assert {"responses": 1} == _numbers(pb.VerifyBatchResponse)
    reserved = descriptor_pb2.DescriptorProto()
    pb.VerifyResponse.DESCRIPTOR.CopyToProto(reserved)
    assert [(5, 8)] == [(span.start, span.end) for span in reserved.reserved_range]
    assert pb.VerifyRequest.DESCRIPTOR.fields_by_name["key"].GetOptions().debug_redact


def _numbers(message) -> dict[str, int]:
    return {field.name: field.number for field in message.DESCRIPTOR.fields}


# --- The operators' API ----------------------------------------------------------------------------------------------


def _methods(every) -> list[tuple[str, descriptor_pb2.MethodDescriptorProto]]:
    return [
        (f"{service.name}/{method.name}", method)
        for name in MODULES if "/admin/" in name for service in every[name].service for method in service.method
    ]  # fmt: skip


def test_each_method_of_the_operators_api_has_messages_of_its_own(every):
    for name, method in _methods(every):
        word = name.split("/")[1]
        assert (f".verifier.admin.v1.{word}Request", f".verifier.admin.v1.{word}Response") == (
            method.input_type, method.output_type
        )  # fmt: skip


def test_whatever_changes_something_takes_options_and_returns_a_receipt(every):
    messages = {message.name: message for name in MODULES if "/admin/" in name for message in every[name].message_type}
    reading = ("Get", "List", "Check", "Compare", "Query", "Verify", "Report")
    changing = [name.split("/")[1] for name, _ in _methods(every) if not name.split("/")[1].startswith(reading)]
    assert len(changing) >= 18
    for word in changing:
        request = messages["ImportTerms" if word == "ImportKeys" else f"{word}Request"]
        assert "options" in {field.name for field in request.field}, word
        assert "receipt" in {field.name for field in messages[f"{word}Response"].field}, word


def test_every_token_of_an_answer_is_marked_as_a_secret(every):
    """What is marked is left out of stored answers, too."""
    tokens = [
        (message.name, field.options.debug_redact)
        for name in MODULES if "/admin/" in name for message in every[name].message_type for field in message.field
        if field.name == "token"
    ]  # fmt: skip
    assert [("CreateKeyResponse", True), ("RotateKeyResponse", True)] == sorted(tokens)
