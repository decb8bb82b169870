"""The rules of a version's life, boundary by boundary."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.control import lifecycle
from verifier.errors import Conflict, InvalidInput
from verifier.registry.facts import Key, Version
from verifier.vocabulary import Phase, RevocationReason

NOW = 1_000_000
V = Version(ordinal=1, number=1, tag=bytes(32), issued_at=NOW)
K = Key(ordinal=1, key_id="key_1", client_ordinal=1, client_id="acme", enabled=True, created_at=NOW, expires_at=None,
        scopes=(), rules=(), metadata={}, prefix="vk_live", versions=(V,))

MOMENTS = st.none() | st.integers(1, 40)
REASONS = st.sampled_from(list(RevocationReason))


@given(MOMENTS, MOMENTS, MOMENTS)
def test_the_earliest_end_counts(own: int | None, retire: int | None, key_end: int | None):
    end = lifecycle.effective_end(replace(K, expires_at=key_end), replace(V, expires_at=own, retire_at=retire))
    ends = [moment for moment in (own, retire, key_end) if moment is not None]
    assert end == (min(ends) if ends else None)


@pytest.mark.parametrize(("at", "expected"), [
    (9, Phase.PENDING), (10, Phase.CURRENT),        # activation is inclusive
    (19, Phase.CURRENT), (20, Phase.RETIRING),      # so is supersession
    (29, Phase.RETIRING), (30, Phase.EXPIRED),      # the end is exclusive
])
def test_phases_at_their_boundaries(at: int, expected: Phase):
    version = replace(V, not_before=10, superseded_at=20, retire_at=30)
    assert lifecycle.phase(K, version, at) is expected
    assert lifecycle.phase(K, replace(version, revoked_at=1), at) is Phase.REVOKED


@given(MOMENTS, MOMENTS, MOMENTS, st.integers(1, 40))
def test_an_empty_window_is_never_in_force(begin: int | None, end: int | None, superseded: int | None, at: int):
    version = replace(V, not_before=begin, expires_at=end, superseded_at=superseded)
    in_force = lifecycle.phase(K, version, at) in (Phase.CURRENT, Phase.RETIRING)
    assert in_force == ((begin or 0) <= at and (end is None or at < end))


@given(st.lists(REASONS, min_size=1, max_size=6))
def test_revocations_only_get_stronger_and_compromise_is_final(asked: list[RevocationReason]):
    standing: RevocationReason | None = None
    for reason in asked:
        before, standing = standing, lifecycle.revoked_reason(standing, reason)
        assert lifecycle.strength(standing) >= lifecycle.strength(before)
        assert lifecycle.revoked_reason(standing, reason) is standing  # a repeat changes nothing
    compromised = RevocationReason.KEY_COMPROMISE in asked
    assert standing is (RevocationReason.KEY_COMPROMISE if compromised else asked[0])


@pytest.mark.parametrize(("begin", "end", "fine"), [
    (None, None, True), (NOW + 9, None, True), (None, NOW + 1, True), (NOW + 9, NOW + 10, True),
    (None, NOW, False), (None, NOW - 1, False), (NOW + 9, NOW + 9, False), (NOW + 9, NOW + 8, False),
    (NOW - 9, NOW + 1, True), (NOW - 9, NOW, False),
])
def test_windows_in_which_a_key_could_never_be_valid_are_refused(begin: int | None, end: int | None, fine: bool):
    if fine:
        lifecycle.check_window(begin, end, NOW)
        return
    with pytest.raises(InvalidInput) as caught:
        lifecycle.check_window(begin, end, NOW)
    assert caught.value.code == "EMPTY_WINDOW"


@pytest.mark.parametrize("moment", [0, -1, 2**32 - 1, 2**40])
def test_times_that_no_record_can_hold(moment: int):
    with pytest.raises(InvalidInput):
        lifecycle.check_time("the end", moment)


@given(MOMENTS, MOMENTS)
def test_ends_move_later_only_on_purpose(present: int | None, asked: int | None):
    assert lifecycle.moved_end(present, asked, extend=True) == asked
    later = present is not None and (asked is None or asked > present)
    if later:
        with pytest.raises(Conflict) as caught:
            lifecycle.moved_end(present, asked, extend=False)
        assert caught.value.code == "WOULD_EXTEND"
    else:
        assert lifecycle.moved_end(present, asked, extend=False) == asked


def test_without_a_version_all_live_ones_are_meant():
    revoked = replace(V, number=2, revoked_at=1, reason=RevocationReason.UNSPECIFIED)
    expired, pending = replace(V, number=3, expires_at=NOW), replace(V, number=4, not_before=NOW + 5)
    key = replace(K, versions=(V, revoked, expired, pending))
    assert [1, 4] == [version.number for version in lifecycle.to_revoke(key, None, NOW)]
    assert [3, 2] == [version.number for version in lifecycle.to_revoke(key, [3, 2, 3], NOW)]
    with pytest.raises(InvalidInput) as caught:
        lifecycle.to_revoke(key, [1, 5], NOW)
    assert caught.value.code == "VERSION_NOT_FOUND"
