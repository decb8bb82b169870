"""docs/openapi.yaml against the OpenAPI specification, the .proto file, and what a loop really answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.web import (
    EARLY,
    GOOD,
    LATE,
    OFF,
    RETIRING,
    REVOKED_KEY,
    RULED,
    UNKNOWN,
    Answer,
    WebServer,
    answers_of,
    head,
    verify,
    web_server,
    world,
)
from verifier.v1.verifier_pb2 import Phase, RevocationReason, Verdict, VerifyRequest, VerifyResponse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server(world()) as running:
        yield running


def resolved(page: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": page["components"]}


def check(page: dict[str, Any], answer: Answer, method: str, path: str, *, has_body: bool = True) -> None:
    """Compare an answer with its description."""
    described = page["paths"][path][method.lower()]["responses"][str(answer.status)]
    for name, header in described.get("headers", {}).items():
        assert not header.get("required") or name in answer.headers, name
        if name in answer.headers:
            jsonschema.validate(answer.headers[name], header["schema"])
    if not has_body or "content" not in described:
        assert b"" == answer.body
        return
    (kind, content), = described["content"].items()
    assert kind == answer.headers["content-type"]
    jsonschema.validate(answer.json(), resolved(page, content["schema"]),
                        format_checker=jsonschema.FormatChecker())


def test_it_is_openapi(page: dict[str, Any]):
    OpenAPIV31SpecValidator(page).validate()


@pytest.mark.parametrize("message", [VerifyRequest, VerifyResponse])
def test_fields_are_those_of_the_proto(page: dict[str, Any], message: Any):
    described = page["components"]["schemas"][message.DESCRIPTOR.name]["properties"]
    assert {field.json_name for field in message.DESCRIPTOR.fields} == set(described)


@pytest.mark.parametrize(("enum", "field"), [(Verdict, "verdict"), (Phase, "phase"),
                                             (RevocationReason, "revocationReason")])
def test_enumerations_are_those_of_the_proto(page: dict[str, Any], enum: Any, field: str):
    described = page["components"]["schemas"]["VerifyResponse"]["properties"][field]["enum"]
    assert [name for name, _ in enum.items() if not name.endswith("UNSPECIFIED")] == described


def test_codes_are_those_of_the_program(page: dict[str, Any]):
    sources = (ROOT / "ext" / "verifier" / name for name in ("_decided.pyx", "_page.pyx"))
    text = "".join(path.read_text() for path in sources)
    written = set(re.findall(r'\\?"code\\?":\\?"([a-z_]+)', text)) | set(re.findall(r'return b"([a-z_]+)"', text))
    assert written == set(page["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])


TOKENS = {"good": GOOD, "retiring": RETIRING, "revoked": REVOKED_KEY, "off": OFF, "early": EARLY, "late": LATE,
          "ruled": RULED, "unknown": UNKNOWN}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("query", ["", "?scopes=read", "?scopes=no", "?oops=1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_answers_to_gateways_are_as_described(page: dict[str, Any], server: WebServer, kind: str, query: str,
                                              method: str):
    data = server.say(head(f"/v1/authz{query}", f"x-api-key: {TOKENS[kind]}", method=method))
    (answer,) = answers_of(data, heads=method == "HEAD")
    check(page, answer, method, "/v1/authz", has_body=method != "HEAD")


@pytest.mark.parametrize("kind", TOKENS)
def test_answers_in_json_are_as_described(page: dict[str, Any], server: WebServer, kind: str):
    request = {"key": TOKENS[kind], "requiredScopes": ["read"], "clientAddress": "10.0.0.1", "minRevision": "1"}
    jsonschema.validate(request, resolved(page, page["components"]["schemas"]["VerifyRequest"]))
    (answer,) = answers_of(server.say(verify(request)))
    check(page, answer, "POST", "/v1/verify")


@pytest.mark.parametrize("request_", [
    verify(b"{"), verify({"key": GOOD, "minRevision": 9}), head("/v1/verify", "content-length: 99999", method="POST"),
    head("/v1/verify", "content-length: 0", method="POST"),
])  # fmt: skip
def test_faults_are_as_described(page: dict[str, Any], server: WebServer, request_: bytes):
    (answer,) = answers_of(server.say(request_))
    check(page, answer, "POST", "/v1/verify")


def test_without_a_keyring_it_is_as_described(page: dict[str, Any]):
    with web_server() as server:
        for method, path, request in (("GET", "/v1/authz", head("/v1/authz", f"x-api-key: {GOOD}")),
                                      ("POST", "/v1/verify", verify({"key": GOOD}))):
            (answer,) = answers_of(server.say(request))
            assert 503 == answer.status
            check(page, answer, method, path)
    assert json.dumps(page["openapi"]).startswith('"3.1')
