"""A node, and the in-process keyring, refuse publications that bring a compromised version back to life.

The publications are real and signed: as if the registry had been restored, or the signing key stolen.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.test_following import Following
from tests.integration.test_loading import load, refused
from tests.support.image import ABSENT, PEPPER, REVOKED, Facts, image_of, make_image, tag_of, view_of
from tests.support.publications import Stocked, flip, native
from verifier._tagset import find_unrevoked
from verifier.errors import Unavailable, UnsoundPublication
from verifier.serving.highest import HighestServed
from verifier.serving.keyring import Keyring
from verifier.serving.loading import LoadLimits
from verifier.store.manifest import TombstoneFile
from verifier.store.tombstones import Tombstone, write_set
from verifier.vocabulary import Verdict

A, B, C = native(1), native(2), native(3)
DEAD = Facts(flags=REVOKED, reason=1)


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    stocked = Stocked(tmp_path / "home")
    stocked.store.tombstones.mkdir()
    return stocked


def bury(stocked: Stocked, *tokens: str, peppers: Iterable[bytes] | None = None) -> TombstoneFile:
    """Put a file of tombstones into the store."""
    tags = [tag_of(token) if peppers is None else tag_of(token, list(peppers)) for token in tokens]
    written = write_set(stocked.store.tombstones, [Tombstone(tag, "key_1", 1, 1_800_000_000) for tag in sorted(tags)])
    assert written is not None
    return written


def test_a_compromised_version_must_be_revoked_in_base_or_delta(stocked: Stocked):
    file = bury(stocked, A)
    stocked.publish({A: DEAD, B: Facts()}, tombstones=(file,))
    assert Verdict.REVOKED == load(stocked, 1).view.verify(A).verdict
    stocked.publish({A: Facts(), B: Facts()}, tombstones=(file,))
    assert refused(stocked, 2) == "RESURRECTION"
    stocked.publish({A: Facts(flags=4), B: Facts()}, {A: DEAD}, tombstones=(file,))
    assert Verdict.REVOKED == load(stocked, 3).view.verify(A).verdict
    stocked.publish({A: DEAD, B: Facts()}, {A: Facts(key_id="again")}, tombstones=(file,))
    assert refused(stocked, 4) == "RESURRECTION"
    stocked.publish({A: Facts()}, {A: Facts(flags=ABSENT)}, tombstones=(file,))
    assert Verdict.UNKNOWN == load(stocked, 5).view.verify(A).verdict
    stocked.publish({B: Facts()}, tombstones=(file,))
    assert Verdict.UNKNOWN == load(stocked, 6).view.verify(A).verdict


def test_a_revocation_for_another_reason_serves_as_well(stocked: Stocked):
    stocked.publish({A: Facts(flags=REVOKED, reason=5)}, tombstones=(bury(stocked, A),))
    assert Verdict.REVOKED == load(stocked, 1).view.verify(A).verdict


def test_what_only_the_delta_denied_is_looked_up_again_without_it(stocked: Stocked):
    """The base holds the version alive, and only the delta on it kept it dead: the next must not drop that."""
    stocked.publish({A: Facts(), B: Facts()}, {A: DEAD}, tombstones=(bury(stocked, A),))
    first = load(stocked, 1)
    assert frozenset() == first.buried.clean
    stocked.publish({A: Facts(), B: Facts()}, {B: DEAD}, tombstones=(bury(stocked, A, B),))
    assert refused(stocked, 2, reuse=first) == "RESURRECTION"


@pytest.mark.parametrize("first_dead", [True, False])
def test_with_the_same_base_a_delta_cannot_resurrect(stocked: Stocked, first_dead: bool):
    file = bury(stocked, A)
    base = {A: DEAD if first_dead else Facts(), B: Facts()}
    stocked.publish(base, {A: DEAD, B: Facts(scopes=["x"])}, tombstones=(file,))
    first = load(stocked, 1)
    assert first_dead == bool(first.buried.clean)
    stocked.publish(base, {A: Facts(), B: Facts()}, tombstones=(file, bury(stocked, C)))
    assert refused(stocked, 2, reuse=first) == "RESURRECTION"
    stocked.publish(base, {A: DEAD, B: Facts()}, tombstones=(file, bury(stocked, C)))
    third = load(stocked, 3, reuse=first)
    assert third.view.base is first.view.base and Verdict.REVOKED == third.view.verify(A).verdict


def test_tombstones_accepted_once_must_come_again(stocked: Stocked):
    following = Following(stocked)
    stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A),))
    following.turn()
    stocked.publish({A: Facts(), B: Facts()})  # as from a restored registry that knows of nothing
    following.turn()
    stocked.publish({B: Facts()}, tombstones=(bury(stocked, B),))  # as many, but not the same
    following.turn()
    assert ([1], ["RESURRECTION", "RESURRECTION"]) == (following.delivered, following.codes)
    stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A, C),))
    following.turn()
    assert [1, 4] == following.delivered


def test_tombstones_survive_a_restart(stocked: Stocked, tmp_path: Path):
    state = tmp_path / "state"
    stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A), bury(stocked, B, C)), delta={B: DEAD})
    following = Following(stocked, state)
    following.turn()
    kept = json.loads((state / "tombstones.json").read_text())
    assert ["p1"] == kept["peppers"] and [1, 2] == [file["count"] for file in kept["files"]]
    stocked.publish({A: Facts(), B: DEAD}, tombstones=(bury(stocked, B, C),))
    again = Following(stocked, state)
    again.turn()
    assert (["RESURRECTION"], [1]) == (again.codes, again.recorder.fell_back_to)
    stocked.publish({A: DEAD, B: DEAD}, tombstones=(bury(stocked, A, B, C),))
    again.turn()
    assert 1 == len(list((state / "tombstones").iterdir()))
    assert HighestServed(state).buried.files == again.follower.publication.buried.files  # type: ignore[union-attr]


def test_what_a_node_knows_is_given_up_by_hand(stocked: Stocked, tmp_path: Path):
    """The steps of docs/recovery.md: after them the node begins again with what is published."""
    state = tmp_path / "state"
    stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A),))
    Following(stocked, state).turn()
    stocked.publish({B: Facts()}, tombstones=(bury(stocked, B),))
    stocked.publish({B: DEAD}, tombstones=(bury(stocked, B),))
    stubborn = Following(stocked, state)
    stubborn.turn()
    assert ["RESURRECTION"] == stubborn.codes[:1]
    (given_up := tmp_path / "given-up").mkdir()
    for name in ("tombstones.json", "tombstones"):
        (state / name).rename(given_up / name)
    following = Following(stocked, state)
    following.turn()
    assert ([3], []) == (following.delivered, following.codes)
    assert HighestServed(state).mark.revision == 3  # type: ignore[union-attr]
    assert [bury(stocked, B)] == list(HighestServed(state).buried.files)  # type: ignore[union-attr]


def test_damaged_state_is_told(stocked: Stocked, tmp_path: Path):
    state = tmp_path / "state"
    stocked.publish({A: DEAD}, tombstones=(bury(stocked, A),))
    Following(stocked, state).turn()
    (path,) = (state / "tombstones").iterdir()
    flip(path, 20)
    with pytest.raises(Unavailable, match="does not hold what a node writes"):
        HighestServed(state)
    path.unlink()
    with pytest.raises(Unavailable, match="does not hold what a node writes"):
        HighestServed(state)


def test_nodes_that_share_a_folder_keep_the_tombstones_of_the_newest(stocked: Stocked, tmp_path: Path):
    state = tmp_path / "state"
    one, other = Following(stocked, state), Following(stocked, state)
    stocked.publish({A: DEAD}, tombstones=(bury(stocked, A),))
    one.turn()
    other.turn()
    stocked.publish({A: DEAD, B: DEAD}, tombstones=(bury(stocked, A, B),))
    one.turn()
    newest = HighestServed(state).buried
    slow = HighestServed(state)
    slow.mark = other.follower.publication.mark  # type: ignore[union-attr]
    slow.bury(other.follower.publication.buried, stocked.store)  # type: ignore[union-attr]
    assert newest == HighestServed(state).buried
    assert newest is not None and 2 == newest.files[0].count


def test_another_store_is_not_measured_by_these_tombstones(stocked: Stocked, tmp_path: Path):
    state = tmp_path / "state"
    stocked.publish({A: DEAD}, tombstones=(bury(stocked, A),))
    Following(stocked, state).turn()
    (state / "highest.json").unlink()  # on purpose, to serve another store
    stocked.publish({B: Facts()}, store_id="st_other")
    following = Following(stocked, state)
    following.turn()
    assert ([2], []) == (following.delivered, following.codes)


def test_without_a_state_folder_the_process_remembers(stocked: Stocked):
    stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A),))
    with Keyring.open(stocked.home.folder, watch=False) as keyring:
        stocked.publish({A: Facts(), B: Facts()})
        keyring._follower.turn()
        assert (1, Verdict.REVOKED) == (keyring.revision, keyring.verify(A).verdict)
        assert keyring._follower.last_refusal.code == "RESURRECTION"  # type: ignore[union-attr]


def test_damaged_or_missing_files_are_refused_until_they_are_there(stocked: Stocked):
    following = Following(stocked)
    file = bury(stocked, A)
    path = stocked.store.tombstone_path(file.sha256)
    stocked.publish({A: DEAD}, tombstones=(file,))
    flip(path, 30)
    following.turn()
    path.rename(path.with_name("hidden"))
    following.turn()
    assert (["BAD_DIGEST", "BAD_DIGEST"], []) == (following.codes, following.delivered)
    flip(path.with_name("hidden"), 30)
    path.with_name("hidden").rename(path)
    following.turn()  # tried again, as the file changed
    assert [1] == following.delivered


def test_a_signed_file_that_is_no_set_is_refused(stocked: Stocked):
    file = bury(stocked, A)
    stocked.publish({A: DEAD}, tombstones=(replace(file, count=2),))
    assert refused(stocked, 1) == "FORMAT"


def test_more_tombstones_than_a_node_takes(stocked: Stocked):
    stocked.publish({A: DEAD}, tombstones=(bury(stocked, A, B, C),))
    assert refused(stocked, 1, limits=LoadLimits(records_max=2)) == "LIMIT"


class TestPepperLayers:
    """A pepper is added: all tags change, in records and tombstones alike."""

    P2 = bytes([7]) * 32

    def publish(self, stocked: Stocked, facts: dict[str, Facts], *tombs: str) -> None:
        layers = [PEPPER, self.P2]
        (stocked.home.secrets / "peppers" / "p2").write_text(self.P2.hex() + "\n")
        base = stocked.add(make_image({tag_of(token, layers): fact.encode(tag_of(token, layers))
                                       for token, fact in facts.items()}))
        files = (bury(stocked, *tombs, peppers=layers),) if tombs else ()
        stocked.publish({}, base=replace(base, peppers=("p1", "p2")), records=base.records, active=0, tombstones=files)

    def test_what_was_accepted_is_found_under_the_new_pepper(self, stocked: Stocked, tmp_path: Path):
        state = tmp_path / "state"
        stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A),))
        Following(stocked, state).turn()
        self.publish(stocked, {A: Facts(), B: Facts()})
        following = Following(stocked, state)
        following.turn()
        self.publish(stocked, {A: Facts(), B: Facts()}, A)
        following.turn()
        assert ["RESURRECTION", "RESURRECTION"] == following.codes
        self.publish(stocked, {A: DEAD, B: Facts()}, A)
        following.turn()
        assert [1, 4] == following.delivered
        view = following.follower.publication.view  # type: ignore[union-attr]
        assert [Verdict.REVOKED, Verdict.VALID] == [view.verify(token).verdict for token in (A, B)]
        assert ("p1", "p2") == HighestServed(state).buried.peppers  # type: ignore[union-attr]


    def test_other_peppers_would_make_a_compromised_token_look_new(self, stocked: Stocked):
        following = Following(stocked)
        stocked.publish({A: DEAD, B: Facts()}, tombstones=(bury(stocked, A),))
        following.turn()
        (stocked.home.secrets / "peppers" / "p2").write_text(self.P2.hex() + "\n")
        for peppers, layers in ((("p2",), [self.P2]), (("p2", "p1"), [self.P2, PEPPER])):
            tag = tag_of(A, layers)
            base = stocked.add(make_image({tag: Facts().encode(tag)}))
            stocked.publish({}, base=replace(base, peppers=peppers), records=1, active=1,
                            tombstones=(bury(stocked, A),))
            following.turn()
        assert ([1], ["RESURRECTION", "RESURRECTION"]) == (following.delivered, following.codes)


# --- The compiled lookup ---------------------------------------------------------------------------------------------

TOKENS = [native(number) for number in range(12)]
flags = st.sampled_from([0, 2, 4, REVOKED, REVOKED | 2])
worlds = st.fixed_dictionaries({
    "base": st.dictionaries(st.sampled_from(TOKENS), flags, max_size=12),
    "delta": st.none() | st.dictionaries(st.sampled_from(TOKENS), flags | st.just(ABSENT), max_size=12),
    "tags": st.sets(st.sampled_from(TOKENS)),
})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(worlds)
def test_the_lookup_finds_just_what_is_alive(world):
    base, delta = world["base"], world["delta"]
    view = view_of(
        image_of({token: Facts(flags=flag) for token, flag in base.items()}),
        None if delta is None else image_of({token: Facts(flags=flag) for token, flag in delta.items()}),
    )
    view.check()
    tokens = {tag_of(token): token for token in world["tags"]}
    order = sorted(tokens)
    tags = b"".join(order)
    served = {**base, **(delta or {})}
    for layer, flags_of in (("view", served), ("base", base), ("delta", delta or {})):
        alive = [at for at, tag in enumerate(order) if not flags_of.get(tokens[tag], ABSENT) & (REVOKED | ABSENT)]
        found = find_unrevoked(view, tags, layer)
        assert (found in alive) if alive else (found == -1)
        if layer != "delta" and alive:
            assert alive[0] == found


def test_the_lookup_compares_the_whole_tag():
    tag = tag_of(A)
    view = view_of(make_image({tag: Facts().encode(tag)}))
    other = tag[:16] + bytes(16)
    assert (0, -1) == (find_unrevoked(view, tag), find_unrevoked(view, other))


def test_a_forged_publication_says_why(stocked: Stocked):
    stocked.publish({A: Facts()}, tombstones=(bury(stocked, A),))
    with pytest.raises(UnsoundPublication, match="alive in it"):
        load(stocked, 1)
