"""Random histories of a key: the rules against a second opinion, and against what must always hold."""

from copy import deepcopy
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.life_model import NEVER, Life, No, Secret
from verifier.control import lifecycle, rotating
from verifier.control.policy import BUILT_IN, Policy, effective
from verifier.control.rotating import NewVersion, RotateTerms
from verifier.errors import VerifierError
from verifier.registry.facts import Key, Version
from verifier.vocabulary import Phase, RevocationReason

START = 1_000_000
HOUR = 3600
POLICY = effective(Policy(max_live=3), BUILT_IN)
SPANS = st.sampled_from([0, 1, 30, HOUR, 5 * HOUR])
CLOCKS = st.sampled_from(["fixed", "on_first_use", "manual"])
HARMLESS = ("cancel", "use", "retire", "revoke", "reinstate")  # a repeat changes nothing
WORKS = (Phase.CURRENT, Phase.RETIRING)


def first_key(own: int | None, ends: int | None) -> Key:
    version = Version(ordinal=1, number=1, tag=bytes([1] * 32), issued_at=START, expires_at=own)
    return Key(ordinal=1, key_id="key_1", client_ordinal=1, client_id="acme", enabled=True, created_at=START,
               expires_at=ends, scopes=(), rules=(), metadata={}, prefix="vk_live", versions=(version,))


@dataclass
class Step:
    """What happened last: its name, and the key before and after."""

    name: str
    before: Key
    after: Key


class Histories(RuleBasedStateMachine):
    """One key, done to by both."""

    @initialize(own=st.none() | st.integers(1, 40 * HOUR), ends=st.none() | st.integers(1, 80 * HOUR))
    def begin(self, own: int | None, ends: int | None) -> None:
        self.now = START
        self.key = first_key(None if own is None else START + own, None if ends is None else START + ends)
        self.life = Life(NEVER if ends is None else START + ends, now=START)
        self.life.secrets.append(Secret(1, START, 0, NEVER if own is None else START + own))
        self.compromised: set[int] = set()
        self.step = Step("begin", self.key, self.key)

    # --- What happens ---

    def both(self, name, ours, theirs) -> bool:
        """Do something to both; return whether it was allowed. They must agree, in the reason of a refusal too."""
        before, life = self.key, deepcopy(self.life)
        try:
            self.key = ours(before)
            said = "done"
        except VerifierError as refused:
            said = refused.code
        try:
            theirs()
            expected = "done"
        except No as refused:
            expected, self.life = str(refused), life
        assert expected == said, name
        self.step = Step(name, before, self.key)
        if said == "done" and name in HARMLESS:
            assert self.key == ours(self.key)
        return said == "done"

    def secret(self, draw: int) -> Secret:
        return self.life.secrets[draw % len(self.life.secrets)]

    @rule(seconds=st.sampled_from([1, 1, 29, 30, HOUR - 1, HOUR, 5 * HOUR, 20 * HOUR]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.life.now = self.now
        self.step = Step("tick", self.key, self.key)

    @rule(overlap=SPANS, clock=CLOCKS, pending=SPANS, at=st.none() | st.integers(-1, 3 * HOUR),
          life=st.none() | st.sampled_from([0, 2 * HOUR, 50 * HOUR]), force=st.booleans(), gap=st.booleans())
    def rotate(self, overlap, clock, pending, at, life, force, gap) -> None:
        at = None if at is None else self.now + at
        terms = RotateTerms(overlap, clock, pending, at, life, force=force, allow_gap=gap)
        if self.both(
            "rotate", lambda key: self._rotated(key, terms),
            lambda: self.life.rotate(clock, overlap, pending, at, life, leak=False, force=force, gap=gap),
        ):  # fmt: skip
            self._check_rotation(overlap, clock, pending, at)

    @rule(force=st.booleans())
    def rotate_as_it_leaked(self, force) -> None:
        terms = RotateTerms(reason=RevocationReason.KEY_COMPROMISE, force=force)
        label = self.key.label.number
        if self.both(
            "leak", lambda key: self._rotated(key, terms),
            lambda: self.life.rotate("fixed", 0, 0, None, None, leak=True, force=force, gap=False),
        ):  # fmt: skip
            self.compromised.add(label)

    def _rotated(self, key: Key, terms: RotateTerms) -> Key:
        number = len(key.versions) + 1
        return rotating.rotate(key, terms, POLICY, NewVersion(number, bytes([number % 256] * 32)), self.now)

    def _check_rotation(self, overlap, clock, pending, at) -> None:
        key, new = self.key, self.key.label
        (old,) = [version for version in key.versions if version.superseded_by == new.number]
        begins = self.now if at is None else at
        assert old.superseded_at == begins and new.not_before == at  # I9, first half
        assert lifecycle.is_rotating(key, self.now) or not lifecycle.is_live(key, old, self.now)
        if old.revoked_at is not None:
            return
        own = min(end for end in (old.expires_at, key.expires_at, NEVER) if end is not None)
        end = lifecycle.effective_end(key, old) or NEVER
        assert end >= min(begins, own)  # I10
        if clock == "fixed":
            assert end == min(own, begins + overlap)  # I11
        if at is not None and own > begins:  # I9: somebody is always let in
            for moment in (self.now, begins - 1, begins, begins + overlap, own - 1):
                if self.now <= moment < min(own, lifecycle.effective_end(key, new) or NEVER):
                    assert any(lifecycle.phase(key, v, moment) in WORKS for v in (old, new))

    @rule()
    def promote(self) -> None:
        self.both("promote", lambda key: rotating.promote(key, self.now), self.life.promote)

    @rule()
    def cancel(self) -> None:
        before = self.key.label.number
        if self.both("cancel", lambda key: rotating.cancel(key, self.now), self.life.cancel):
            label = self.key.label
            assert label.retire_at is None  # I20: the whole of its own life is given back
            assert label.number == before or self.key.versions[before - 1].revoked_at is not None

    @rule(to=st.none() | st.integers(0, 20), overlap=SPANS)
    def roll_back(self, to, overlap) -> None:
        secret = None if to is None else self.secret(to)
        number = None if secret is None else secret.number
        if self.both(
            "roll back", lambda key: rotating.roll_back(key, number, overlap, self.now),
            lambda: self.life.roll_back(secret, overlap),
        ):  # fmt: skip
            assert lifecycle.phase(self.key, self.key.label, self.now) is Phase.CURRENT

    @rule(which=st.integers(0, 20), ago=st.integers(-10, 3 * HOUR), newest=st.booleans())
    def use(self, which, ago, newest) -> None:
        secret = self.life.label if newest else self.secret(which)
        at = self.now - ago
        self.both("use", lambda key: rotating.first_use(key, secret.number, at, self.now),
                  lambda: self.life.use(secret, at))

    @rule(which=st.integers(0, 20), at=st.none() | st.integers(-5, 2 * HOUR))
    def retire(self, which, at) -> None:
        secret, at = self.secret(which), None if at is None else self.now + at
        self.both("retire", lambda key: rotating.retire(key, secret.number, at, self.now),
                  lambda: self.life.retire(secret, at))

    @rule(which=st.integers(0, 20), reason=st.sampled_from(list(RevocationReason)))
    def revoke(self, which, reason) -> None:
        secret = self.secret(which)
        self.both("revoke", lambda key: lifecycle.revoke(key, [secret.number], reason, self.now),
                  lambda: self.life.kill(secret, reason.name.lower()))
        if reason is RevocationReason.KEY_COMPROMISE:
            self.compromised.add(secret.number)

    @precondition(lambda self: any(v.revoked_at for v in self.key.versions))
    @rule(which=st.integers(0, 20))
    def reinstate(self, which) -> None:
        gone = [version for version in self.key.versions if version.revoked_at is not None]
        version = gone[which % len(gone)]
        when = version.revoked_at or 0
        self.both("reinstate", lambda key: lifecycle.with_version(key, lifecycle.reinstated(version, when, self.now)),
                  lambda: self.life.reinstate(self.life.secrets[version.number - 1], when))

    @rule(seconds=st.integers(0, 40 * HOUR))
    def shorten(self, seconds) -> None:
        label, end = self.key.label, self.now + seconds
        if (label.expires_at or NEVER) > end:
            self.key = lifecycle.with_version(self.key, replace(label, expires_at=end))
            self.life.label.own = end
            self.step = Step("shorten", self.step.after, self.key)

    # --- What always holds ---

    @invariant()
    def both_let_the_same_in(self) -> None:
        """I3, I4: at every moment that matters, nobody is refused or let in by mistake."""
        assert [secret.number for secret in self.life.secrets] == [version.number for version in self.key.versions]
        assert self.life.label.number == self.key.label.number
        for secret, version in zip(self.life.secrets, self.key.versions, strict=True):
            ends = (version.not_before, lifecycle.effective_end(self.key, version), version.superseded_at)
            for moment in {self.now, *(m + d for m in ends if m is not None for d in (-1, 0))}:
                assert self.life.works(secret, moment) == (lifecycle.phase(self.key, version, moment) in WORKS)
            assert (secret.why or None) == (version.reason.name.lower() if version.reason is not None else None)
            assert secret.used == version.first_used_at
            assert (version.revoked_at is None) == (version.reason is None)

    @invariant()
    def what_was_compromised_stays_so(self) -> None:
        """I1."""
        for number in self.compromised:
            assert self.key.versions[number - 1].reason is RevocationReason.KEY_COMPROMISE

    @invariant()
    def labels_and_successors_are_sound(self) -> None:
        """I7, I8: one label, to which every other version leads; one live pending version at most; no clipped label."""
        versions = {version.number: version for version in self.key.versions}
        assert 1 == sum(version.superseded_at is None for version in versions.values())
        assert sum(lifecycle.is_pending(v, self.now) and lifecycle.is_live(self.key, v, self.now)
                   for v in versions.values()) <= 1
        assert self.key.label.retire_at is None and self.key.label.superseded_by == 0
        for version in versions.values():
            steps, at = 0, version
            while at.superseded_by:
                at, steps = versions[at.superseded_by], steps + 1
                assert steps <= len(versions)
            assert at is self.key.label

    @invariant()
    def announced_ends_hold(self) -> None:
        """I5, I6: an end that callers were told moves earlier only by what may move it; an own end never later."""
        may = {"retire", "promote", "use", "shorten"}
        for old, new in zip(self.step.before.versions, self.step.after.versions, strict=False):
            assert (new.expires_at or NEVER) <= (old.expires_at or NEVER)
            if old.superseded_by and old.superseded_by == new.superseded_by and self.step.name not in may:
                ends = [lifecycle.effective_end(k, v) or NEVER
                        for k, v in ((self.step.before, old), (self.step.after, new))]
                assert ends[1] >= ends[0], self.step.name

    @invariant()
    def waiting_windows_are_bounded(self) -> None:
        """I12."""
        for old in self.key.versions:
            if old.ceiling is None or old.cut or old.revoked_at is not None:
                continue
            used = self.key.versions[old.superseded_by - 1].first_used_at
            assert old.retire_at is not None and old.retire_at <= old.ceiling
            assert used is not None or old.retire_at == old.ceiling
            assert used is None or old.retire_at >= min(used + (old.overlap_s or 0), old.ceiling)


Histories.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, report_multiple_bugs=False
)
TestHistories = Histories.TestCase
