"""Addresses to listen on, and what binding them leaves behind or finds."""

import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.errors import InvalidInput, Unavailable, VerifierError
from verifier.server.listeners import Address, Listener, open_listeners, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", Address(host="127.0.0.1", port=50051)),
        ("localhost:0", Address(host="localhost", port=0)),
        ("[::]:1", Address(host="::", port=1)),
        ("unix:run/verifier.sock", Address(path=Path("run/verifier.sock"))),
    ],
)
def test_addresses(text: str, address: Address):
    assert address == parse_address(text)
    assert text == str(address)


@pytest.mark.parametrize(
    "text", ["", "50051", ":50051", "host:", "host:http", "host:65536", "::1:50051", "unix:", "[::1]"]
)
def test_what_is_no_address(text: str):
    with pytest.raises(InvalidInput):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_invalid_input(text: str):
    try:
        address = parse_address(text)
    except InvalidInput:
        return
    assert address == parse_address(str(address))


def test_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match="another program listens") as failure:
            Listener(parse_address(f"127.0.0.1:{port}"))
        assert "ADDRESS_IN_USE" == failure.value.code
        assert failure.value.hint


def test_a_second_server_never_shares_the_port():
    first = Listener(parse_address("127.0.0.1:0"))
    with pytest.raises(Unavailable):
        Listener(first.address)
    first.close()
    Listener(first.address).close()


def test_all_or_none(tmp_path: Path):
    path = tmp_path / "a.sock"
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(VerifierError):
        open_listeners([f"unix:{path}", f"127.0.0.1:{other.getsockname()[1]}"])
    assert not path.exists()


def test_foreign_and_unknown_hosts():
    with pytest.raises(InvalidInput, match="not an address of this machine"):
        Listener(parse_address("192.0.2.1:0"))
    with pytest.raises(InvalidInput, match="not known"):
        Listener(parse_address("no.such.host.invalid:1"))


def test_unix_socket_is_private_and_removed(tmp_path: Path):
    path = tmp_path / "deep" / "verifier.sock"
    listener = Listener(Address(path=path), 0o600)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    listener.close()
    assert not path.exists()
    listener.close()


def test_stale_unix_socket_is_replaced(tmp_path: Path):
    path = tmp_path / "verifier.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    Listener(Address(path=path)).close()


def test_unix_socket_in_use_is_not_taken_away(tmp_path: Path):
    path = tmp_path / "verifier.sock"
    first = Listener(Address(path=path))
    with pytest.raises(Unavailable, match="another program listens"):
        Listener(Address(path=path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    first.close()


def test_other_files_are_left_alone(tmp_path: Path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(Unavailable, match="not a socket"):
        Listener(Address(path=path))
    assert "data" == path.read_text()


def test_a_socket_that_another_server_has_put_there_since_is_not_removed(tmp_path: Path):
    path = tmp_path / "verifier.sock"
    first = Listener(Address(path=path))
    path.unlink()
    second = Listener(Address(path=path))
    first.close()
    assert path.exists()
    second.close()


def test_path_that_is_too_long(tmp_path: Path):
    with pytest.raises(VerifierError):
        Listener(Address(path=tmp_path / ("x" * 200)))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_kernel_asks_silent_peers_whether_they_are_there(host: str):
    (listener,) = open_listeners([f"{host}:0"])
    with socket.create_connection((listener.address.host, listener.address.port)):
        accepted, _ = listener.socket.accept()
        with accepted:
            assert 1 == accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert 60 == accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    listener.close()
