"""The operators' API over TLS, with certificates made here: who is trusted, who is known, and how they are renewed."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.admin import Served, make_client, make_identity, served
from tests.support.certificates import Authority
from verifier.admin import remote
from verifier.admin.roles import Role
from verifier.admin.server import AdminServer, Settings
from verifier.admin.tls import ClientTls, ServerTls
from verifier.admin.v1 import audit_pb2
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control.founding import found
from verifier.errors import InvalidInput, NotAuthenticated, NotFound, Unavailable
from verifier.store.home import Home

LIST = pb.ListClientsRequest()


LOCALHOST = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "ca")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    return Authority(folder, "stranger")


@pytest.fixture(scope="module")
def plain(folder: Path, authority: Authority) -> Iterator[Served]:
    """A control plane with a server certificate."""
    home = Home(folder / "plain")
    found(home)
    certificate, key = authority.issue("server", "control", *LOCALHOST)
    with served(home, Settings("127.0.0.1:0", ServerTls(certificate, key))) as there:
        yield there


@pytest.fixture(scope="module")
def mutual(folder: Path, authority: Authority) -> Iterator[Served]:
    """A control plane that asks for certificates."""
    home = Home(folder / "mutual")
    found(home)
    certificate, key = authority.issue("mutual", "control", *LOCALHOST)
    with served(home, Settings("127.0.0.1:0", ServerTls(certificate, key, client_ca=authority.path))) as there:
        make_identity(there.desk, "robot", Role.OPERATOR, certificate_name="robot.example")
        yield there


def test_a_trusted_server_is_talked_to_with_a_token(plain: Served, authority: Authority):
    admin = plain.connect(Role.OPERATOR, tls=ClientTls(authority.path))
    make_client(admin)
    assert [client.client_id for client in admin.lifecycle.ListClients(LIST).clients] == ["acme"]


def test_a_server_of_others_and_plaintext_are_refused(plain: Served, stranger: Authority):
    for tls in (ClientTls(stranger.path), ClientTls(), None):
        with pytest.raises(Unavailable) as raised:
            plain.connect(Role.VIEWER, tls=tls).lifecycle.ListClients(LIST)
        assert "cannot be reached" in raised.value.message


def test_a_renewed_certificate_is_shown_without_a_restart(plain: Served, folder: Path, stranger: Authority,
                                                          authority: Authority):
    stranger.issue("server", "control", *LOCALHOST)
    try:
        admin = plain.connect(Role.VIEWER, tls=ClientTls(stranger.path))
        admin.lifecycle.ListClients(LIST)
    finally:
        authority.issue("server", "control", *LOCALHOST)
    plain.connect(Role.VIEWER, tls=ClientTls(authority.path)).lifecycle.ListClients(LIST)
    # Half a renewal: what is shown stays.
    (folder / "server.key").write_text("no key")
    plain.connect(Role.VIEWER, tls=ClientTls(authority.path)).lifecycle.ListClients(LIST)
    authority.issue("server", "control", *LOCALHOST)


def test_a_certificate_tells_who_calls(mutual: Served, authority: Authority):
    for file, common_name, names in (("by-san", "whatever", [x509.DNSName("robot.example")]),
                                     ("by-cn", "robot.example", [])):
        certificate, key = authority.issue(file, common_name, *names)
        admin = mutual.connect(None, tls=ClientTls(authority.path, certificate, key))
        make_client(admin, file)
        (entry, *_) = admin.audit.ListEntries(audit_pb2.ListEntriesRequest()).entries
        assert (entry.principal, entry.client_id) == ("cert:robot", file)


def test_a_certificate_that_names_nobody_is_not_enough(mutual: Served, authority: Authority):
    certificate, key = authority.issue("unknown", "nobody", x509.DNSName("nobody.example"))
    tls = ClientTls(authority.path, certificate, key)
    with pytest.raises(NotAuthenticated):
        mutual.connect(None, tls=tls).lifecycle.ListClients(LIST)
    # With a token it need not name anybody; and a bad token is not made good by a certificate that does.
    mutual.connect(Role.VIEWER, tls=tls).lifecycle.ListClients(LIST)
    known = ClientTls(authority.path, *authority.issue("known", "robot.example"))
    with pytest.raises(NotAuthenticated):
        mutual.connect(token="va_nothing", tls=known).lifecycle.ListClients(LIST)


def test_a_certificate_of_two_identities_is_neither(mutual: Served, authority: Authority):
    make_identity(mutual.desk, "other", Role.ADMIN, certificate_name="other.example")
    certificate, key = authority.issue("both", "robot.example", x509.DNSName("other.example"))
    with pytest.raises(NotAuthenticated):
        mutual.connect(None, tls=ClientTls(authority.path, certificate, key)).lifecycle.ListClients(LIST)


def test_without_a_certificate_of_the_authority_nobody_comes_in(mutual: Served, authority: Authority,
                                                               stranger: Authority):
    forged = stranger.issue("forged", "robot.example", x509.DNSName("robot.example"))
    for tls in (ClientTls(authority.path), ClientTls(authority.path, *forged)):
        with pytest.raises(Unavailable):
            mutual.connect(Role.ADMIN, tls=tls).lifecycle.ListClients(LIST)


def test_files_that_will_not_do_are_named(plain: Served, folder: Path, authority: Authority):
    certificate, key = authority.issue("good", "control", *LOCALHOST)
    (folder / "empty").write_text("")
    with pytest.raises(NotFound):
        AdminServer(plain.desk, Settings("0.0.0.0:0", ServerTls(folder / "none", key)))
    with pytest.raises(Unavailable) as raised:
        server = AdminServer(plain.desk, Settings("127.0.0.1:0", ServerTls(certificate, folder / "empty")))
        server.start()
        server.stop()
    assert raised.value.code in ("BAD_CERTIFICATE", "CANNOT_LISTEN")
    with pytest.raises(NotFound):
        remote.connect("127.0.0.1:1", "va_x", ClientTls(folder / "none"))
    with pytest.raises(InvalidInput):
        remote.connect("127.0.0.1:1", "va_x", ClientTls(authority.path, certificate))
