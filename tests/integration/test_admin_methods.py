"""Every method of the operators' API, in the process and over the network: the same answers and the same errors."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.admin import GENERATE, RECORDED, imported, make_client, make_key, served
from verifier.admin import local
from verifier.admin.face import Admin
from verifier.admin.roles import Role
from verifier.admin.server import SERVICES
from verifier.admin.v1 import audit_pb2, node_pb2, publication_pb2, usage_pb2
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.admin.v1 import types_pb2 as types
from verifier.control.founding import found
from verifier.errors import VerifierError
from verifier.store.home import Home

# What differs from run to run, by the name of its field.
VOLATILE = {
    "etag", "sha256", "hash", "request_id", "anchor", "token", "bytes", "clock", "principal", "details_json",
    "last_seen_at", "took", "clock_skew", "next_page_token",
}  # fmt: skip
HOUR_S = 3600


class Story:
    """Calls every method once at least, in an order in which each has something to do."""

    def __init__(self, admin: Admin, node: Admin) -> None:
        self.admin = admin
        self.node = node
        self.told: list[tuple[str, Any]] = []
        self._names: dict[str, str] = {}

    def call(self, name: str, request: Any) -> Any:
        """Call a method, note the answer without what is different each time, and return the answer."""
        service, method = name.split("/")
        part = next(part for part, told in SERVICES.items() if told.name == service)
        admin = self.node if method.startswith("Report") else self.admin
        response = getattr(getattr(admin, part), method)(request)
        self.told.append((name, self._plain(MessageToDict(response, preserving_proto_field_name=True))))
        return response

    def _plain(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self._plain(item, key) for key, item in sorted(value.items())}
        if isinstance(value, list):
            plain = [self._plain(item, name) for item in value]
            return sorted(plain, key=str) if name == "examples" else plain  # those come in the order of their tags
        if name in VOLATILE:
            return bool(value)
        if name in ("key_id", "key_ids"):
            return self._names.setdefault(value, f"key {len(self._names) + 1}")
        if isinstance(value, str) and value[4:5] == "-" and value.endswith("Z"):
            return "a time"
        return value

    def life(self, method: str, request: Any) -> Any:
        return self.call(f"LifecycleService/{method}", request)

    def published(self, method: str, request: Any) -> Any:
        return self.call(f"PublicationService/{method}", request)

    def tell(self) -> list[tuple[str, Any]]:
        """Call everything; return what each method answered."""
        self._clients()
        ids = self._keys()
        self._rotations(ids)
        self._endings(ids)
        self._publications()
        self._nodes()
        self.call("AuditService/ListEntries", audit_pb2.ListEntriesRequest(page_size=5, action="key", ascending=True))
        self.call("AuditService/VerifyLog", audit_pb2.VerifyLogRequest())
        self.call("UsageService/QueryUsage", usage_pb2.QueryUsageRequest(client_id="acme"))
        return self.told

    def _clients(self) -> None:
        policy = types.Policy(overlap=Duration(seconds=HOUR_S), notices=[Duration(seconds=60)], max_live=2)
        self.life("CreateClient", pb.CreateClientRequest(client_id="acme", name="Acme", policy=policy))
        self.life("GetClient", pb.GetClientRequest(client_id="acme"))
        self.life("ListClients", pb.ListClientsRequest())
        self.life("UpdateClient", pb.UpdateClientRequest(
            client=types.Client(client_id="acme", name="Acme Ltd"), update_mask=FieldMask(paths=["name", "policy"])))
        self.life("GetStorePolicy", pb.GetStorePolicyRequest())
        self.life("UpdateStorePolicy", pb.UpdateStorePolicyRequest(
            policy=types.Policy(overlap=Duration(seconds=2 * HOUR_S), clock=types.CLOCK_MANUAL)))

    def _keys(self) -> list[str]:
        ids = [
            self.life("CreateKey", pb.CreateKeyRequest(
                client_id="acme", scopes=["read"], allow=["10.0.0.0/8"], metadata={"plan": "gold"}, secret=GENERATE,
                key_expires_at=Timestamp(seconds=int(time.time()) + 1_000_000), options=RECORDED)).key.key_id
            for _ in range(4)
        ]
        self.life("GetKey", pb.GetKeyRequest(key_id=ids[0]))
        page = self.life("ListKeys", pb.ListKeysRequest(client_id="acme", page_size=3))
        self.life("ListKeys", pb.ListKeysRequest(client_id="acme", page_token=page.next_page_token))
        self.life("UpdateKey", pb.UpdateKeyRequest(
            key=types.Key(key_id=ids[0], scopes=["read", "write"]), update_mask=FieldMask(paths=["scopes", "enabled"])))
        return ids

    def _rotations(self, ids: list[str]) -> None:
        for key_id, at_s in zip(ids, (None, None, None, time.time() + 9), strict=True):
            at = None if at_s is None else Timestamp(seconds=int(at_s))
            self.life("RotateKey", pb.RotateKeyRequest(
                key_id=key_id, secret=GENERATE, activate_at=at, overlap=Duration(seconds=60), clock=types.CLOCK_FIXED,
                options=RECORDED))
        self.life("CheckRetirement", pb.CheckRetirementRequest(key_id=ids[0]))
        self.life("RetireVersion", pb.RetireVersionRequest(key_id=ids[0], version=1, force=True))
        self.life("RollBackKey", pb.RollBackKeyRequest(key_id=ids[1]))
        self.life("CancelRotation", pb.CancelRotationRequest(key_id=ids[2]))
        self.life("PromoteVersion", pb.PromoteVersionRequest(key_id=ids[3]))

    def _endings(self, ids: list[str]) -> None:
        digests = [hashlib.sha256(bytes([n])).digest() for n in range(3)]
        terms = pb.ImportTerms(client_id="acme", mixed_prefix="old", scopes=["read"], entropy_bits=128, skip_bad=True)
        self.life("ImportKeys", imported(
            terms, [pb.ImportRow(sha256=digest) for digest in digests],
            [pb.ImportRow(sha256=b"short"), pb.ImportRow(sha256=digests[0])],
        ))  # fmt: skip
        selection = pb.Selection(versions=[pb.VersionName(key_id=ids[0])], token_sha256s=[digests[0], bytes(32)])
        revoked = self.life("Revoke", pb.RevokeRequest(selection=selection, reason=4))
        self.life("Reinstate", pb.ReinstateRequest(audit_id=revoked.receipt.audit_id))

    def _publications(self) -> None:
        self.published("Publish", publication_pb2.PublishRequest())
        page = self.published("ListPublications", publication_pb2.ListPublicationsRequest(page_size=2))
        self.published("ListPublications", publication_pb2.ListPublicationsRequest(page_token=page.next_page_token))
        self.published("ComparePublications", publication_pb2.ComparePublicationsRequest(
            from_revision=2, to_revision=4, examples_max=9))
        self.published("ComparePublications", publication_pb2.ComparePublicationsRequest(from_revision=2))
        self.published("RollBack", publication_pb2.RollBackRequest(revision=3, allow_drop=True))
        self.published("Publish", publication_pb2.PublishRequest(resume=True, rebase=True))
        self.published("PrunePublications", publication_pb2.PrunePublicationsRequest(
            keep=2, options=types.Options(validate_only=True)))
        self.published("ReconcileRegistry", publication_pb2.ReconcileRegistryRequest())

    def _nodes(self) -> None:
        now = Timestamp(seconds=int(time.time()))
        self.call("NodeService/ReportStatus", node_pb2.ReportStatusRequest(
            node="n1", epoch=7, revision=2, served_at=now, load_time=Duration(nanos=3_000_000), clock=now, version="1",
            addresses=["127.0.0.1:1"],
            last_refusal=node_pb2.Refusal(revision=3, code="FORMAT", message="bad", refused_at=now)))
        report = node_pb2.ReportUsageRequest(node="n1", epoch=7, sequence=1, to=now, ordinals=[1], valid=[2],
                                             refused=[1])
        getattr(report, "from").seconds = now.seconds - 10
        self.call("NodeService/ReportUsage", report)
        self.call("NodeService/ListNodes", node_pb2.ListNodesRequest())
        self.call("NodeService/ForgetNode", node_pb2.ForgetNodeRequest(node="n1"))
        self.call("NodeService/ListNodes", node_pb2.ListNodesRequest())


def test_every_method_answers_alike_in_the_process_and_over_the_network(quick_path: Path):
    for name in ("here", "there"):
        found(Home(quick_path / name))
    with local.connect(Home(quick_path / "here")) as admin:
        here = Story(admin, admin).tell()
    with served(Home(quick_path / "there")) as control:
        there = Story(control.connect(Role.ADMIN), control.connect(Role.NODE)).tell()
    methods = {f"{service.name}/{method.name}" for service in SERVICES.values() for method in service.methods}
    assert methods == {name for name, _ in here}
    for one, other in zip(here, there, strict=True):
        assert one == _renumbered(other)


def _renumbered(told: tuple[str, Any]) -> tuple[str, Any]:
    """The control plane's log begins with the identities of the test: shift its ids to those of the other."""
    shift = len(Role)

    def plain(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: plain(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if name == "audit_id" and value:
            return f"a-{int(value[2:]) - shift}"
        if name == "entries" and isinstance(value, str):
            return str(int(value) - shift)
        return value

    return told[0], plain(told[1])


FAILURES: dict[str, tuple[str, Callable[[], Any]]] = {
    "CLIENT_NOT_FOUND": ("lifecycle/GetClient", lambda: pb.GetClientRequest(client_id="nobody")),
    "KEY_NOT_FOUND": ("lifecycle/GetKey", lambda: pb.GetKeyRequest(key_id="nothing")),
    "CLIENT_EXISTS": ("lifecycle/CreateClient", lambda: pb.CreateClientRequest(client_id="acme")),
    "BAD_ID": ("lifecycle/CreateClient", lambda: pb.CreateClientRequest(client_id="a b")),
    "BAD_SECRET": ("lifecycle/CreateKey", lambda: pb.CreateKeyRequest(client_id="acme")),
    "BAD_MASK": ("lifecycle/UpdateClient", lambda: pb.UpdateClientRequest(client=types.Client(client_id="acme"))),
    "BAD_PAGE": ("lifecycle/ListKeys", lambda: pb.ListKeysRequest(page_token="x")),
    "BAD_DURATION": ("lifecycle/UpdateStorePolicy", lambda: pb.UpdateStorePolicyRequest(
        policy=types.Policy(overlap=Duration(seconds=-1)))),
    "ETAG_MISMATCH": ("lifecycle/UpdateClient", lambda: pb.UpdateClientRequest(
        client=types.Client(client_id="acme"), update_mask=FieldMask(paths=["name"]), etag="other")),
    "COUNT_MISMATCH": ("lifecycle/Revoke", lambda: pb.RevokeRequest(
        selection=pb.Selection(client_ids=["acme"]), expected_count=7)),
    "EMPTY_SELECTION": ("lifecycle/Revoke", pb.RevokeRequest),
    "BAD_STREAM": ("lifecycle/ImportKeys", lambda: iter([pb.ImportKeysRequest()])),
    "REVISION_NOT_FOUND": ("publication/RollBack", lambda: publication_pb2.RollBackRequest(revision=99)),
    "NODE_NOT_FOUND": ("node/ForgetNode", lambda: node_pb2.ForgetNodeRequest(node="n9")),
    "BAD_ANCHOR": ("audit/VerifyLog", lambda: audit_pb2.VerifyLogRequest(anchor="?")),
}


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """The same home, in the process and over the network."""
    home = Home(tmp_path_factory.mktemp("home"))
    found(home)
    with served(home) as control, local.connect(home) as here:
        make_client(here)
        make_key(here)
        yield here, control.connect()


@pytest.mark.parametrize("code", FAILURES)
def test_errors_arrive_as_they_were_raised(sides, code: str):
    name, request = FAILURES[code]
    part, method = name.split("/")
    raised = []
    for admin in sides:
        with pytest.raises(VerifierError) as caught:
            getattr(getattr(admin, part), method)(request())
        raised.append((type(caught.value), caught.value.code, caught.value.message, caught.value.hint,
                       caught.value.details))
    assert raised[0] == raised[1]
    assert raised[0][1] == code


def test_an_update_needs_the_state_that_was_read(sides):
    here, there = sides
    key = make_key(here).key
    update = pb.UpdateKeyRequest(key=key, update_mask=FieldMask(paths=["metadata"]), options=RECORDED)
    update.key.metadata["plan"] = "gold"
    assert there.lifecycle.UpdateKey(update).key.metadata["plan"] == "gold"
    update.key.metadata["plan"] = "silver"
    with pytest.raises(VerifierError) as caught:
        there.lifecycle.UpdateKey(update)
    assert caught.value.code == "ETAG_MISMATCH"
    assert here.lifecycle.GetKey(pb.GetKeyRequest(key_id=key.key_id)).key.metadata["plan"] == "gold"


def test_pages_follow_each_other_without_gaps(sides):
    here, there = sides
    for _ in range(5):
        make_key(here)
    seen, token = [], ""
    while True:
        page = there.lifecycle.ListKeys(pb.ListKeysRequest(page_size=2, page_token=token))
        assert 1 <= len(page.keys) <= 2
        seen += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    everything = [key.key_id for key in here.lifecycle.ListKeys(pb.ListKeysRequest(page_size=1000)).keys]
    assert everything == seen
    assert len(set(seen)) == len(seen) >= 6
