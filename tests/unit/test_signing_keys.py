"""Changing the signing key: at no step is there a moment without a key, or one whose signature is refused here."""

import stat
from pathlib import Path

import pytest

from verifier.errors import Conflict, NotFound, Unavailable, UnsoundPublication, VerifierError
from verifier.store import signing_keys
from verifier.store.secrets import Secrets
from verifier.store.signing import SigningKey, signer_of


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    secrets = Secrets(tmp_path / "secrets", {})
    secrets.create()
    return secrets


def code(error: pytest.ExceptionInfo[VerifierError]) -> str:
    return error.value.code


def test_from_one_key_to_the_next(secrets: Secrets):
    old = secrets.signing_key()
    line = old.sign(b"{}")
    following = signing_keys.make_next(secrets)
    assert following.key_id == signing_keys.make_next(secrets).key_id != old.key_id
    assert (old.key_id, following.key_id) == secrets.trust().key_ids
    assert old.key_id == secrets.signing_key().key_id
    assert following.key_id == signing_keys.switch(secrets).key_id == secrets.signing_key().key_id
    assert not signing_keys.next_path(secrets).exists()
    assert 0o600 == stat.S_IMODE(secrets.signing_path.stat().st_mode)
    assert old.key_id == secrets.trust().verify(b"{}", line)
    signing_keys.distrust(secrets, old.key_id)
    with pytest.raises(UnsoundPublication):
        secrets.trust().verify(b"{}", line)
    assert following.key_id == secrets.trust().verify(b"{}", secrets.signing_key().sign(b"{}"))


def test_a_lost_key_is_replaced(secrets: Secrets):
    secrets.signing_path.unlink()
    with pytest.raises(Conflict) as refused:
        secrets.create()
    assert code(refused) == "NO_SIGNING_KEY"
    signing_keys.make_next(secrets)
    key = signing_keys.switch(secrets)
    assert key.key_id in secrets.trust().key_ids and 2 == len(secrets.trust().key_ids)
    secrets.create()


def test_what_nodes_would_refuse_is_not_switched_to(secrets: Secrets):
    with pytest.raises(NotFound) as refused:
        signing_keys.switch(secrets)
    assert code(refused) == "NO_SIGNING_KEY"
    signing_keys.next_path(secrets).write_bytes(SigningKey.generate().private_pem())
    signing_keys.next_path(secrets).chmod(0o600)
    with pytest.raises(Conflict) as untrusted:
        signing_keys.switch(secrets)
    assert code(untrusted) == "NOT_TRUSTED"
    signing_keys.next_path(secrets).chmod(0o644)
    with pytest.raises(Unavailable) as exposed:
        signing_keys.make_next(secrets)
    assert code(exposed) == "SECRET_EXPOSED"


def test_a_crash_in_a_switch_leaves_a_key_to_sign_with(secrets: Secrets, monkeypatch: pytest.MonkeyPatch):
    key = signing_keys.make_next(secrets)
    monkeypatch.setattr(signing_keys.durable, "remove", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        signing_keys.switch(secrets)
    monkeypatch.undo()
    assert key.key_id == secrets.signing_key().key_id
    assert key.key_id == signing_keys.switch(secrets).key_id


def test_trusting_others(secrets: Secrets):
    one, two = SigningKey.generate(), SigningKey.generate()
    assert (one.key_id, two.key_id) == signing_keys.trust(secrets, one.public_pem() + two.public_pem())
    assert () == signing_keys.trust(secrets, two.public_pem())
    assert 3 == len(signing_keys.trusted_ids(secrets))
    for text in (b"", one.private_pem(), b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(Unavailable) as refused:
            signing_keys.trust(secrets, text)
        assert code(refused) == "BAD_KEY"
    assert 3 == len(signing_keys.trusted_ids(secrets))


def test_what_is_in_use_stays_trusted(secrets: Secrets):
    own, following = secrets.signing_key().key_id, signing_keys.make_next(secrets).key_id
    for key_id in (own, following):
        with pytest.raises(Conflict) as refused:
            signing_keys.distrust(secrets, key_id)
        assert code(refused) == "IN_USE"
    with pytest.raises(NotFound):
        signing_keys.distrust(secrets, "0" * 16)
    lone = SigningKey.generate()
    node = Secrets(secrets.folder.parent / "node", {})
    (node.folder / "peppers").mkdir(parents=True)
    signing_keys.trust(node, lone.public_pem())
    with pytest.raises(Conflict):
        signing_keys.distrust(node, lone.key_id)


def test_a_line_tells_who_signed():
    key = SigningKey.generate()
    assert (key.key_id, None) == (signer_of(key.sign(b"{}")), signer_of(b"ed25519 x y\n"))
