"""The rules of rotation, guard by guard and boundary by boundary."""

from dataclasses import replace

import pytest

from verifier.control import lifecycle, rotating
from verifier.control.policy import BUILT_IN, DAY_S, Policy, effective
from verifier.control.rotating import NewVersion, RotateTerms
from verifier.errors import Conflict, InvalidInput, VerifierError
from verifier.registry.facts import Key, Version
from verifier.vocabulary import Phase, RevocationReason

NOW = 1_000_000
LATER = NOW + 100
V1 = Version(ordinal=1, number=1, tag=bytes(32), issued_at=NOW - 50)
KEY = Key(ordinal=1, key_id="key_1", client_ordinal=1, client_id="acme", enabled=True, created_at=NOW - 50,
          expires_at=None, scopes=(), rules=(), metadata={}, prefix="vk_live", versions=(V1,))
COMPROMISE = RevocationReason.KEY_COMPROMISE
SUPERSEDED = RevocationReason.SUPERSEDED


def rotated(key: Key = KEY, now: int = NOW, policy: Policy = BUILT_IN, **terms) -> Key:
    new = NewVersion(100 + len(key.versions), bytes([len(key.versions)] * 32))
    return rotating.rotate(key, RotateTerms(**terms), policy, new, now)


def phases(key: Key, at: int) -> list[str]:
    return [lifecycle.phase(key, version, at).name for version in key.versions]


def refusal(function, *arguments, **options) -> VerifierError:
    with pytest.raises((Conflict, InvalidInput)) as caught:
        function(*arguments, **options)
    return caught.value


def with_label(key: Key, **values) -> Key:
    return lifecycle.with_version(key, replace(key.label, **values))


# --- Windows ---------------------------------------------------------------------------------------------------------


def test_an_immediate_rotation_leaves_not_before_empty():
    key = rotated(overlap_s=60)
    old, new = key.versions
    assert (new.number, new.not_before, new.issued_at) == (2, None, NOW)  # a node whose clock lags takes it at once
    assert (old.superseded_at, old.superseded_by, old.retire_at) == (NOW, 2, NOW + 60)
    assert [phases(key, at) for at in (NOW, NOW + 59, NOW + 60)] == [
        ["RETIRING", "CURRENT"], ["RETIRING", "CURRENT"], ["EXPIRED", "CURRENT"]
    ]  # fmt: skip


def test_a_scheduled_rotation_counts_from_its_activation():
    key = rotated(activate_at=LATER, overlap_s=60)
    assert [phases(key, at) for at in (NOW, LATER - 1, LATER, LATER + 59, LATER + 60)] == [
        ["CURRENT", "PENDING"], ["CURRENT", "PENDING"], ["RETIRING", "CURRENT"], ["RETIRING", "CURRENT"],
        ["EXPIRED", "CURRENT"],
    ]  # fmt: skip


def test_no_overlap_ends_the_old_version_in_the_same_second():
    assert phases(rotated(overlap_s=0), NOW) == ["EXPIRED", "CURRENT"]


def test_the_clock_that_waits_has_a_ceiling_from_the_start():
    key = rotated(clock="on_first_use", max_pending_s=1000, overlap_s=60, activate_at=LATER)
    assert key.versions[0].retire_at == key.versions[0].ceiling == LATER + 1060


def test_the_clock_that_is_set_by_hand_has_no_end():
    key = rotated(clock="manual")
    assert lifecycle.effective_end(key, key.versions[0]) is None
    over = rotating.retire(key, 1, None, LATER)
    assert phases(over, LATER) == ["EXPIRED", "CURRENT"]


def test_the_policy_says_what_the_terms_leave_open():
    policy = effective(Policy(overlap_s=7, clock="on_first_use", max_pending_s=5, expires_in_s=90), BUILT_IN)
    key = rotated(policy=policy)
    assert (key.versions[0].retire_at, key.label.expires_at) == (NOW + 12, NOW + 90)
    assert rotated(policy=policy, expires_in_s=0).label.expires_at is None
    assert rotated().versions[0].retire_at == NOW + DAY_S


def test_own_ends_are_inherited_and_never_touched():
    key = rotated(with_label(KEY, expires_at=NOW + 500), overlap_s=9999)
    assert [version.expires_at for version in key.versions] == [NOW + 500, NOW + 500]
    assert lifecycle.effective_end(key, key.versions[0]) == NOW + 500
    lasting = rotated(with_label(KEY, expires_at=NOW + 500), expires_in_s=0)
    assert [version.expires_at for version in lasting.versions] == [NOW + 500, None]
    assert rotated(activate_at=LATER, expires_in_s=10).label.expires_at == LATER + 10


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "key", "terms"), [
    ("IN_THE_PAST", KEY, {"activate_at": NOW}),
    ("VERSION_MISMATCH", KEY, {"expected_version": 2}),
    ("KEY_OVER", replace(KEY, expires_at=LATER), {"activate_at": LATER}),
    ("KEY_OVER", replace(KEY, expires_at=LATER), {"activate_at": LATER, "allow_gap": True}),
    ("GAP", with_label(KEY, expires_at=LATER), {"activate_at": LATER, "expires_in_s": 0}),
    ("GAP", with_label(KEY, expires_at=NOW), {"expires_in_s": 0}),
    ("EMPTY_WINDOW", with_label(KEY, expires_at=LATER), {"activate_at": LATER, "allow_gap": True}),
    ("BAD_TERMS", KEY, {"reason": RevocationReason.PRIVILEGE_WITHDRAWN}),
    ("BAD_TERMS", KEY, {"reason": COMPROMISE, "activate_at": LATER}),
    ("BAD_TERMS", KEY, {"reason": COMPROMISE, "overlap_s": 1}),
    ("BAD_TERMS", KEY, {"reason": COMPROMISE, "clock": "on_first_use"}),
    ("BAD_POLICY", KEY, {"clock": "soon"}),
    ("BAD_POLICY", KEY, {"overlap_s": -1}),
    ("BAD_TIME", KEY, {"activate_at": lifecycle.TIME_MAX, "overlap_s": 1}),
])
def test_what_a_rotation_refuses(code: str, key: Key, terms: dict[str, object]):
    assert code == refusal(rotated, key, **terms).code


@pytest.mark.parametrize("terms", [
    {"activate_at": LATER - 1, "expires_in_s": 0}, {"activate_at": LATER, "allow_gap": True, "expires_in_s": 5},
    {"expected_version": 1},
])
def test_what_is_just_allowed(terms: dict[str, object]):
    assert rotated(with_label(KEY, expires_at=LATER), **terms).label.number == 2


def test_one_rotation_at_a_time():
    for key in (rotated(activate_at=LATER), rotated(overlap_s=60)):
        error = refusal(rotated, key)
        assert (error.code, error.details) == ("ROTATION_OPEN", {"version": 2})
        assert "key cancel key_1" in (error.hint or "")
    assert rotated(rotated(overlap_s=60), NOW + 60).label.number == 3  # it is over


def test_a_forced_rotation_withdraws_a_successor_that_nobody_used():
    for first in (rotated(activate_at=LATER, overlap_s=5), rotated(overlap_s=5)):
        key = rotated(first, NOW + 1, force=True, overlap_s=60)
        one, two, three = key.versions
        assert (one.superseded_by, one.retire_at) == (3, NOW + 61)  # a window of its own, not the one of version 2
        assert (two.reason, two.superseded_by) == (SUPERSEDED, 1)
        assert three.superseded_at is None


def test_a_forced_rotation_leaves_the_windows_of_versions_in_use():
    used = rotating.first_use(rotated(overlap_s=500), 2, NOW, NOW + 1)
    key = rotated(used, NOW + 2, force=True, overlap_s=60)
    assert [(v.superseded_by, v.retire_at) for v in key.versions] == [(2, NOW + 500), (3, NOW + 62), (0, None)]
    more = rotating.first_use(key, 3, NOW + 3, NOW + 3)
    assert refusal(rotated, more, NOW + 3, force=True).code == "MAX_LIVE"
    assert rotated(more, NOW + 3, force=True, reason=COMPROMISE).label.number == 4  # an emergency goes through


def test_a_leaked_version_is_refused_at_once():
    key = rotated(reason=COMPROMISE)
    assert phases(key, NOW) == ["REVOKED", "CURRENT"]
    assert (key.versions[0].reason, key.versions[0].revoked_at, key.versions[0].retire_at) == (COMPROMISE, NOW, None)
    assert refusal(rotating.roll_back, key, None, 0, NOW).code == "NO_PREDECESSOR"
    assert refusal(rotating.roll_back, key, 1, 0, NOW).code == "COMPROMISED"


def test_a_leaked_successor_that_is_pending_leaves_the_version_before_as_it_was_announced():
    pending = rotated(activate_at=LATER, overlap_s=60)
    assert refusal(rotated, pending, reason=COMPROMISE).code == "ROTATION_OPEN"
    key = rotated(pending, NOW + 1, reason=COMPROMISE, force=True)
    assert phases(key, NOW + 1) == ["RETIRING", "REVOKED", "CURRENT"]
    assert key.versions[0].retire_at == LATER + 60


def test_a_revoked_label_is_rotated_without_a_window():
    gone = lifecycle.revoke(KEY, [1], RevocationReason.UNSPECIFIED, NOW)
    key = rotated(gone, NOW + 1)
    assert phases(key, NOW + 1) == ["REVOKED", "CURRENT"]
    assert (key.versions[0].retire_at, key.versions[0].reason) == (None, RevocationReason.UNSPECIFIED)


# --- Promotion and first use -----------------------------------------------------------------------------------------


def test_promoting_a_pending_version():
    key = rotating.promote(rotated(activate_at=LATER, overlap_s=60), NOW + 10)
    old, new = key.versions
    assert (new.not_before, old.superseded_at, old.retire_at) == (None, NOW + 10, NOW + 70)
    assert phases(key, NOW + 10) == ["RETIRING", "CURRENT"]
    assert refusal(rotating.promote, key, NOW + 10).code == "NOTHING_TO_PROMOTE"
    assert refusal(rotating.promote, lifecycle.revoke(key, [2], SUPERSEDED, NOW), NOW + 10).code == "REVOKED"


def test_promoting_starts_the_overlap_that_waits():
    key = rotating.promote(rotated(clock="on_first_use", overlap_s=60, max_pending_s=500), NOW + 10)
    assert (key.versions[0].retire_at, key.versions[0].cut) == (NOW + 70, True)
    assert rotating.promote(key, NOW + 20).versions[0].retire_at == NOW + 70  # once more moves nothing
    late = rotated(clock="on_first_use", overlap_s=60, max_pending_s=5)
    assert rotating.promote(late, NOW + 40).versions[0].retire_at == NOW + 65  # never beyond the ceiling


@pytest.mark.parametrize(("used_at", "reported_at", "first", "end"), [
    (NOW + 10, NOW + 11, NOW + 10, NOW + 10 + 7200),
    (NOW - 99, NOW + 11, NOW, NOW + 7200),                   # not before it was made
    (NOW + 99, NOW + 11, NOW + 11, NOW + 11 + 7200),         # not in the future
    (NOW + 10, NOW + 9000, NOW + 10, NOW + 9000 + 3600),     # told late: not without notice
    (NOW + 10, NOW + 90_000, NOW + 10, NOW + 93_600),
    (NOW + 99_000, NOW + 99_000, NOW + 99_000, NOW + 100_000 + 7200 - 1000),
])  # fmt: skip
def test_first_use_starts_the_overlap(used_at: int, reported_at: int, first: int, end: int):
    key = rotated(clock="on_first_use", overlap_s=7200, max_pending_s=99_000)
    after = rotating.first_use(key, 2, used_at, reported_at)
    assert (after.label.first_used_at, after.versions[0].retire_at) == (first, end)
    assert rotating.first_use(after, 2, used_at + 5, reported_at + 5) == after  # another node says so, too
    assert rotating.first_use(after, 2, used_at, reported_at) == after


def test_a_first_use_moves_no_other_clock():
    for clock in ("fixed", "manual"):
        key = rotated(clock=clock, overlap_s=60)
        assert rotating.first_use(key, 2, NOW + 5, NOW + 5).versions[0] == key.versions[0]


# --- Ending and going back -------------------------------------------------------------------------------------------


def test_retiring():
    key = rotated(overlap_s=60)
    assert rotating.retire(key, 1, None, NOW + 5).versions[0].retire_at == NOW + 5
    assert rotating.retire(key, 1, NOW + 20, NOW + 5).versions[0].retire_at == NOW + 20
    assert rotating.retire(key, 1, NOW + 99, NOW + 5) == key  # never later
    assert rotating.retire(key, 1, NOW - 9, NOW + 5).versions[0].retire_at == NOW + 5
    over = rotating.retire(key, 1, None, NOW + 5)
    assert rotating.retire(over, 1, None, NOW + 8) == over
    assert refusal(rotating.retire, key, 2, None, NOW).code == "NOT_SUPERSEDED"
    assert refusal(rotating.retire, rotated(activate_at=LATER), 1, LATER - 1, NOW).code == "NOT_SUPERSEDED"
    assert refusal(rotating.retire, lifecycle.revoke(key, [1], SUPERSEDED, NOW), 1, None, NOW).code == "REVOKED"
    assert rotating.roll_back(over, None, 60, NOW + 9).label.number == 1  # no revocation: it can come back


@pytest.mark.parametrize("key", [rotated(activate_at=LATER), rotated(overlap_s=60), rotated(clock="manual")])
def test_cancelling_gives_the_version_before_its_whole_life_back(key: Key):
    after = rotating.cancel(key, NOW + 1)
    assert after.versions[0] == V1
    assert (after.versions[1].reason, after.versions[1].superseded_at, after.versions[1].superseded_by) == (
        SUPERSEDED, NOW + 1, 1
    )  # fmt: skip
    assert rotating.cancel(after, NOW + 2) == after
    assert rotated(after, NOW + 3).label.number == 3


def test_what_cannot_be_cancelled():
    assert refusal(rotating.cancel, KEY, NOW).code == "NO_PREDECESSOR"
    assert refusal(rotating.cancel, rotated(overlap_s=60), NOW + 60).code == "NO_PREDECESSOR"
    assert refusal(rotating.cancel, rotating.first_use(rotated(), 2, NOW, NOW), NOW).code == "IN_USE"


def test_a_cancelled_successor_is_not_revived_as_a_second_pending_one():
    after = rotating.cancel(rotated(activate_at=LATER), NOW + 1)
    gone = after.versions[1]
    assert lifecycle.reinstated(gone, NOW + 1, LATER + 50) == gone
    used_to_be_active = rotating.cancel(rotated(overlap_s=60), NOW + 1).versions[1]
    assert lifecycle.reinstated(used_to_be_active, NOW + 1, NOW + 2).revoked_at is None
    assert lifecycle.reinstated(used_to_be_active, NOW, NOW + 2) == used_to_be_active  # of another revocation


def test_going_back_during_the_overlap_cuts_nobody_off():
    used = rotating.first_use(rotated(overlap_s=60), 2, NOW, NOW)
    key = rotating.roll_back(used, None, 30, NOW + 10)
    assert phases(key, NOW + 10) == phases(key, NOW + 39) == ["CURRENT", "RETIRING"]
    assert phases(key, NOW + 40) == ["CURRENT", "EXPIRED"]
    assert lifecycle.effective_end(key, key.versions[0]) is None


def test_going_back_after_the_overlap_revives():
    key = rotating.roll_back(rotated(overlap_s=60), None, 30, NOW + 100)
    assert phases(key, NOW + 100) == ["CURRENT", "RETIRING"]
    over = rotated(with_label(KEY, expires_at=NOW + 50), overlap_s=60, expires_in_s=0)
    assert refusal(rotating.roll_back, over, None, 0, NOW + 50).code == "NO_PREDECESSOR"  # its own life is over
    assert refusal(rotating.roll_back, over, 1, 0, NOW + 50).code == "NO_PREDECESSOR"


def test_going_back_from_a_revoked_successor():
    bad = lifecycle.revoke(rotated(overlap_s=60), [2], COMPROMISE, NOW + 1)
    assert phases(bad, NOW + 1) == ["RETIRING", "REVOKED"]  # nothing is extended by itself
    key = rotating.roll_back(bad, None, 60, NOW + 2)
    assert (key.label.number, key.versions[1].reason, key.versions[1].retire_at) == (1, COMPROMISE, None)


def test_going_back_to_a_version_by_number():
    used = rotating.first_use(rotated(), 2, NOW, NOW)
    chain = rotated(used, NOW + 1, force=True)
    key = rotating.roll_back(chain, 1, 60, NOW + 2)
    assert [(v.number, v.superseded_by) for v in key.versions] == [(1, 0), (2, 3), (3, 1)]
    assert refusal(rotating.roll_back, chain, 3, 60, NOW + 2).code == "NO_PREDECESSOR"
    assert refusal(rotating.roll_back, chain, 9, 60, NOW + 2).code == "VERSION_NOT_FOUND"


def test_a_version_that_was_gone_back_to_is_no_unused_successor():
    """No node ever told of its use, but it was made first: cancelling must not take it away."""
    key = rotating.roll_back(rotated(overlap_s=60), None, 500, NOW + 1)
    assert key.label.first_used_at is None
    assert refusal(rotating.cancel, key, NOW + 2).code == "NO_PREDECESSOR"
    forced = rotated(key, NOW + 2, force=True)
    assert forced.versions[0].revoked_at is None
    assert forced.versions[1].retire_at == NOW + 501


# --- What nodes watch, and what is due -------------------------------------------------------------------------------


def test_what_is_watched():
    def watched(key: Key) -> list[bool]:
        return [lifecycle.is_watched(key, version) for version in key.versions]

    assert watched(KEY) == [False]
    assert watched(rotated()) == [True, True]
    assert watched(rotating.first_use(rotated(), 2, NOW, NOW)) == [True, False]
    assert watched(rotated(reason=COMPROMISE)) == [True, False]  # nobody is to move away from it
    assert watched(rotating.cancel(rotated(), NOW)) == [False, True]


def test_when_a_key_is_due():
    assert lifecycle.due_at(KEY, None) is lifecycle.due_at(KEY, 0) is None
    assert lifecycle.due_at(KEY, 500) == NOW + 450
    assert lifecycle.due_at(rotated(activate_at=LATER), 500) == LATER + 500
    assert lifecycle.due_at(replace(KEY, expires_at=NOW + 450), 500) is None
    assert lifecycle.due_at(replace(KEY, expires_at=NOW + 451), 500) == NOW + 450
    assert lifecycle.due_at(lifecycle.revoke(KEY, None, SUPERSEDED, NOW), 500) is None


def test_policies_as_text():
    policy = Policy(max_age_s=0, clock="manual", notices_s=(2, 1), retire_when_safe=False)
    assert Policy.from_text(policy.to_text()) == policy
    assert Policy().to_text() is None and Policy.from_text(None) == Policy()
    assert effective(policy, BUILT_IN) == replace(
        BUILT_IN, max_age_s=0, clock="manual", notices_s=(2, 1), retire_when_safe=False
    )  # fmt: skip
    assert Policy(notices_s=(1, 5, 5)).checked().notices_s == (5, 1)
    for bad in ({"max_live": 0}, {"max_live": 17}, {"min_quiet_s": -1}, {"notices_s": tuple(range(11))}):
        assert refusal(Policy(**bad).checked).code == "BAD_POLICY"


def test_phases_cover_a_chain():
    """Exactly one version is the label, at every step of a long life."""
    key, now = KEY, NOW
    for _ in range(6):
        now += 100
        key = rotating.first_use(rotated(key, now, overlap_s=90), key.versions[-1].number + 1, now, now)
        assert [Phase.CURRENT] == [p for v in key.versions if (p := lifecycle.phase(key, v, now)) is Phase.CURRENT]
    assert [v.superseded_by for v in key.versions] == [2, 3, 4, 5, 6, 7, 0]
