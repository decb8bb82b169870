"""Signatures: one line, one form, one meaning."""

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from verifier.errors import NotFound, Unavailable, UnsoundPublication
from verifier.store.signing import SigningKey, Trust

KEY = SigningKey.generate()
OTHER = SigningKey.generate()


def trust_in(*keys, tmp_path=None):
    public = [serialization.load_pem_public_key(key.public_pem()) for key in keys]
    return Trust(*public)


TRUST = trust_in(KEY)


def test_the_rfc_8032_vector_gives_this_key_id_and_line():
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(seed))
    # SHA-256 of the public key d75a9801...f707511a, first 16 digits.
    assert "21fe31dfa154a261" == key.key_id
    assert key.sign(b"{}").startswith(b"ed25519 21fe31dfa154a261 ")
    assert 8 + 17 + 88 + 1 == len(key.sign(b"{}"))


@given(st.binary(max_size=2000))
def test_what_is_signed_verifies(data):
    assert KEY.key_id == TRUST.verify(data, KEY.sign(data))


@given(st.binary(min_size=1, max_size=500), st.data())
def test_any_flipped_bit_of_the_manifest_is_refused(data, draw):
    line = KEY.sign(data)
    at, bit = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(0, 7))
    damaged = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    with pytest.raises(UnsoundPublication) as caught:
        TRUST.verify(damaged, line)
    assert "BAD_SIGNATURE" == caught.value.code


def test_any_changed_byte_of_the_signature_is_refused():
    data = b'{"format":1}'
    line = KEY.sign(data)
    for at in range(len(line)):
        for other in range(256):
            if other != line[at]:
                with pytest.raises(UnsoundPublication) as caught:
                    TRUST.verify(data, line[:at] + bytes([other]) + line[at + 1 :])
                assert "BAD_SIGNATURE" == caught.value.code


@pytest.mark.parametrize("change", [
    lambda line: b"", lambda line: line[:-1], lambda line: line + b"\n", lambda line: b" " + line,
    lambda line: line.replace(b"\n", b"\r\n"), lambda line: line * 2, lambda line: line.replace(b"==", b""),
    lambda line: line.upper(), lambda line: line.replace(b" ", b"  "),
])
def test_a_line_of_another_form_is_refused(change):
    with pytest.raises(UnsoundPublication):
        TRUST.verify(b"x", change(KEY.sign(b"x")))


def test_a_signature_over_the_bare_manifest_is_refused():
    raw = Ed25519PrivateKey.generate()
    key = SigningKey(raw)
    line = b"ed25519 %s %s\n" % (key.key_id.encode(), base64.b64encode(raw.sign(b"x")))
    with pytest.raises(UnsoundPublication):
        trust_in(key).verify(b"x", line)


def test_an_unknown_key_is_refused_and_several_may_be_trusted(tmp_path):
    with pytest.raises(UnsoundPublication, match="not trusted"):
        TRUST.verify(b"x", OTHER.sign(b"x"))
    (tmp_path / "trusted.pem").write_bytes(b"# old and new\n" + OTHER.public_pem() + b"\n" + KEY.public_pem())
    both = Trust.load(tmp_path / "trusted.pem")
    assert {KEY.key_id, OTHER.key_id} == set(both.key_ids)
    assert OTHER.key_id == both.verify(b"x", OTHER.sign(b"x"))


def test_a_key_survives_its_file(tmp_path):
    path = tmp_path / "signing.pem"
    path.write_bytes(KEY.private_pem())
    path.chmod(0o600)
    assert KEY.sign(b"x") == SigningKey.load(path).sign(b"x")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_signing_key_that_others_can_reach_is_refused(tmp_path, mode):
    path = tmp_path / "signing.pem"
    path.write_bytes(KEY.private_pem())
    path.chmod(mode)
    with pytest.raises(Unavailable) as caught:
        SigningKey.load(path)
    assert "SECRET_EXPOSED" == caught.value.code
    assert f"chmod 600 {path}" == caught.value.hint


def test_files_without_a_usable_key_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    for text in (b"", b"nonsense", KEY.public_pem(), pem_of_rsa()):
        path.write_bytes(text)
        path.chmod(0o600)
        with pytest.raises(Unavailable):
            SigningKey.load(path)
    for text in (b"", KEY.private_pem(), KEY.public_pem().replace(b"MCow", b"XXXX"), b"#" * 70_000):
        path.write_bytes(text)
        with pytest.raises(Unavailable):
            Trust.load(path)
    for load in (SigningKey.load, Trust.load):
        with pytest.raises(NotFound):
            load(tmp_path / "missing.pem")


def pem_of_rsa():
    return generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
