"""What is held, over random lives of keys, against the rule in plain data."""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.test_deltas import STEPS, World, built_anew, edit, state_of
from tests.support.served import decoded, manifest_of, served, told
from verifier.control import keys
from verifier.control.keys import KeyUpdate
from verifier.control.lifecycle import earliest
from verifier.control.publishing import publish
from verifier.control.rolling_back import roll_back
from verifier.errors import VerifierError
from verifier.vocabulary import RevocationReason

NOW = 1_800_000_000


def expected_view(then, now, drop_newer):
    """Say by the rule, in plain data, what is served of each version while the store is held."""
    view = {}
    for name, present in now.items():
        if name not in then:
            view[name] = present
            if drop_newer and not present.revoked:
                view[name] = replace(present, revoked=True, reason=RevocationReason.UNSPECIFIED)
            continue
        old = then[name]
        view[name] = replace(
            old, revoked=present.revoked, reason=present.reason, key_off=present.key_off,
            own_end=earliest(old.own_end, present.own_end), key_end=earliest(old.key_end, present.key_end),
            expires_at=earliest(old.expires_at, present.own_end, present.key_end),
        )  # fmt: skip
    return view


def of_registry(home):
    """Return what the registry would publish, by key id and number, and the clients that are off."""
    return decoded(built_anew(home))


HELD_STEPS = [*STEPS, "own end", "own end later", "key end"]


class HeldWorld(World):
    """A world in which ends move, too."""

    def step(self, what):
        ends = {
            "own end": {"expires_at": NOW + self.choose([1000, 2000, 3000])},
            "own end later": {"expires_at": NOW + 9000, "extend": True},
            "key end": {"key_expires_at": NOW + self.choose([1500, 2500]), "extend": True},
        }
        if what not in ends:
            super().step(what)
            return
        try:
            edit(self.home, keys.update_key, self.key(), KeyUpdate(**ends[what]))
        except VerifierError as error:
            assert error.exit_code in {2, 4}


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=st.lists(st.lists(st.sampled_from(HELD_STEPS), min_size=1, max_size=3), min_size=1, max_size=3),
    after=st.lists(st.lists(st.sampled_from(HELD_STEPS), min_size=1, max_size=3), min_size=1, max_size=3),
    seed=st.integers(0, 999), rebase=st.booleans(), drop_newer=st.booleans(),
)  # fmt: skip
def test_what_is_held_is_then_with_the_denials_of_now(quick_path, before, after, seed, rebase, drop_newer):
    folder = Path(tempfile.mkdtemp(dir=quick_path))
    world = HeldWorld(folder / "home", random.Random(seed).choice)
    home = world.home
    publish(home)
    for what in before[0]:
        world.step(what)
    goal = publish(home, allow_drop=True).revision  # most often a delta
    then, _ = told(home)
    for burst in before[1:]:
        for what in burst:
            world.step(what)
        publish(home, allow_drop=True, rebase=rebase)
    roll_back(home, goal, drop_newer=drop_newer, allow_drop=True)
    for burst in [[], *after]:
        for what in burst:
            world.step(what)
        if burst:
            receipt = publish(home, held_ok=True, allow_drop=True)
            assert (True, goal) == (receipt.manifest.held, receipt.manifest.content_of)
            assert 0 == state_of(home).pending_changes
        now, off = of_registry(home)
        view, view_off = told(home)
        assert then.keys() <= view.keys()  # nothing turns UNKNOWN
        assert expected_view(then, now, drop_newer) == view
        assert off == view_off
        manifest = manifest_of(home)
        assert (len(view), manifest_of(home, goal).base.sha256) == (manifest.records, manifest.base.sha256)
        assert all(record.own_end is None or record.expires_at <= record.own_end for record in view.values())
    publish(home, resume=True, allow_drop=True)
    assert built_anew(home) == served(home)
    shutil.rmtree(folder)
