"""A further pepper, and a new signing key, under keys that stay good all the time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.test_following import Following
from tests.support.life import Life, answers, make_life
from verifier.control import rekeying, rolling_back
from verifier.control.acting import acting
from verifier.errors import Conflict, NotFound
from verifier.registry import audit, queries, tombstones
from verifier.serving.keyring import Keyring
from verifier.store import signing_keys
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets
from verifier.store.signing import signer_of
from verifier.vocabulary import RevocationReason, Verdict


@pytest.fixture
def life(registry_place: Home) -> Iterator[Life]:
    life = Life(registry_place, now_s=1_700_000_000)
    for _ in range(3):
        life.key(life.client())
    yield life
    life.close()


class Place(NamedTuple):
    """What a node follows."""

    store: Store
    secrets: Secrets


def text_of(peppers: Mapping[str, bytes]) -> str:
    return " ".join(f"{name}:{value.hex()}" for name, value in peppers.items())


def add_pepper(life: Life, name: str = "p2") -> rekeying.Rekeyed:
    secrets = Secrets(life.home.secrets)
    secrets.add_pepper(name)
    done: rekeying.Rekeyed = life.do(rekeying.add_pepper, name, secrets.peppers())
    return done


def verdicts(life: Life) -> dict[tuple[str, int], tuple[Verdict, str]]:
    with Keyring.open(life.home.folder, watch=False) as keyring:
        found = {place: keyring.verify(token) for place, token in life.tokens.items()}
        return {place: (answer.verdict, answer.key_id) for place, answer in found.items()}


def test_all_tokens_stay_good(life: Life):
    first, second, third = life.key_ids()
    life.rotate(first, clock="manual")
    life.revoke(second)
    life.publish()
    said = verdicts(life)
    done = add_pepper(life)
    assert (("p1", "p2"), 4, 1) == (done.peppers, done.versions, done.tombstones)
    manifest = life.publish().manifest
    assert (("p1", "p2"), None) == (manifest.base.peppers, manifest.delta)
    assert said == verdicts(life)
    assert [Verdict.VALID, Verdict.VALID, Verdict.REVOKED] == [
        said[place][0] for place in ((first, 1), (first, 2), (second, 1))
    ]
    # Keys go on as before: new ones, revocations, a second delta, another layer.
    life.key("client1")
    life.revoke(third)
    assert life.publish().manifest.delta is not None
    said = verdicts(life)
    add_pepper(life, "p3")
    life.publish()
    assert said == verdicts(life) and Verdict.REVOKED == said[third, 1][0]
    with life.registry() as registry, registry.read() as connection:
        assert ["pepper.add", "pepper.add"] == [e.action for e in audit.entries(connection) if "pepper" in e.action]
        tags = {version.tag for key in queries.list_keys(connection) for version in key.versions}
        assert tags == answers(life.home).keys() and {e.tag for e in tombstones.ascending(connection)} <= tags


def test_a_node_without_the_new_pepper_goes_on_with_the_old_publication(life: Life, tmp_path: Path):
    life.publish()
    held = Secrets(life.home.secrets).peppers()
    mounted, environment = tmp_path / "mounted", {"VERIFIER_PEPPERS": text_of(held)}
    mounted.mkdir()
    (mounted / "trusted.pem").write_bytes((life.home.secrets / "trusted.pem").read_bytes())
    following = Following(Place(Store(life.home.store), Secrets(mounted, environment)))  # type: ignore[arg-type]
    following.turn()
    add_pepper(life)
    life.publish()
    following.turn()
    assert ([1], ["PEPPER_MISSING"]) == (following.delivered, following.codes)
    key = next(iter(life.tokens.values()))
    assert Verdict.VALID == following.follower.publication.view.verify(key).verdict  # type: ignore[union-attr]
    environment["VERIFIER_PEPPERS"] = text_of(Secrets(life.home.secrets).peppers())
    following.follower.reread()
    following.turn()
    assert [1, 2] == following.delivered
    assert Verdict.VALID == following.follower.publication.view.verify(key).verdict  # type: ignore[union-attr]


def test_what_is_refused(life: Life):
    secrets = Secrets(life.home.secrets)

    def refused(name: str) -> str:
        with pytest.raises(Conflict) as error:
            life.do(rekeying.add_pepper, name, secrets.peppers())
        return error.value.code

    assert ["PEPPER_IN_USE", "PEPPER_MISSING"] == [refused("p1"), refused("p2")]
    for name in ("p2", "p3", "p4"):
        add_pepper(life, name)
    secrets.add_pepper("p5")
    assert refused("p5") == "LIMIT"
    life.publish()
    assert {Verdict.VALID} == {verdict for verdict, _ in verdicts(life).values()}


def test_an_error_leaves_all_as_it_was(life: Life):
    life.publish()
    before = verdicts(life)
    secrets = Secrets(life.home.secrets)
    secrets.add_pepper("p2")
    with life.registry() as registry, pytest.raises(RuntimeError), acting(registry) as act:
        rekeying.add_pepper(act, "p2", secrets.peppers())
        raise RuntimeError
    assert not life.publish().changed and before == verdicts(life)


class TestLeaked:
    def test_no_rollback_to_what_nothing_protects_any_more(self, life: Life):
        life.publish()
        add_pepper(life)
        life.publish()
        life.key("client1")
        life.publish()
        assert life.do(rekeying.mark_pepper_leaked, "p1") and not life.do(rekeying.mark_pepper_leaked, "p1")
        said = verdicts(life)
        with life.registry() as registry:
            with pytest.raises(Conflict) as refused:
                rolling_back.roll_back(life.home, 1, registry=registry, now_s=life.now_s)
            assert refused.value.code == "PEPPER_LEAKED"
            # The second is under p2 as well, which nobody knows.
            rolling_back.roll_back(life.home, 2, registry=registry, now_s=life.now_s)
        assert said == verdicts(life)

    def test_a_leaked_pepper_protects_nothing_new(self, life: Life):
        secrets = Secrets(life.home.secrets)
        add_pepper(life)
        life.do(rekeying.mark_pepper_leaked, "p2")
        assert rekeying.is_exposed(("p2",), ("p1", "p2")) and not rekeying.is_exposed(("p1", "p2"), ("p2",))
        with pytest.raises(NotFound):
            life.do(rekeying.mark_pepper_leaked, "p7")
        with pytest.raises(Conflict):
            life.do(rekeying.add_pepper, "p2", secrets.peppers())

    def test_a_rollback_to_before_the_pepper_is_under_both(self, life: Life):
        life.publish()
        add_pepper(life)
        life.revoke(life.key_ids()[0], reason=RevocationReason.KEY_COMPROMISE)
        life.publish()
        said = verdicts(life)
        with life.registry() as registry:
            held = rolling_back.roll_back(life.home, 1, registry=registry, now_s=life.now_s).manifest
        assert ("p1", "p2") == held.base.peppers
        assert said == verdicts(life)


def test_from_one_signing_key_to_the_next(life: Life):
    """The playbook: nodes serve at each step, and refuse the old key's signature at the end."""
    life.publish()
    store, secrets = Store(life.home.store), Secrets(life.home.secrets)
    old = secrets.signing_key()
    new = signing_keys.make_next(secrets)
    following = Following(Place(store, secrets))  # type: ignore[arg-type]
    following.turn()
    signing_keys.switch(secrets)
    receipt = life.publish()
    assert receipt.changed and receipt.revision == 2
    assert not life.publish().changed
    assert new.key_id == signer_of(store.signature(2)) and old.key_id == signer_of(store.signature(1))
    following.turn()
    signing_keys.distrust(secrets, old.key_id)
    life.key("client1")
    life.publish()
    following.turn()
    assert ([1, 2, 3], []) == (following.delivered, following.codes)
    # Whoever stole the old key signs a publication of his own.
    data = store.manifest_bytes(3)
    for name in (b'"revision":', b'"content_of":'):
        data = data.replace(name + b"3", name + b"4")
    store.manifest_path(4).write_bytes(data)
    store.signature_path(4).write_bytes(old.sign(data))
    store.pointer.write_text("4\n")
    following.turn()
    assert (["BAD_SIGNATURE"], 3) == (following.codes, following.delivered[-1])


def test_random_lives_under_another_pepper(tmp_path: Path):
    for seed in range(3):
        life = make_life(tmp_path / str(seed), seed)
        life.live(25)
        life.publish(resume=True)
        said = sorted(answers(life.home).values(), key=str)
        add_pepper(life)
        life.publish()
        assert said == sorted(answers(life.home).values(), key=str)
        life.live(10)
        life.publish()
        life.close()
