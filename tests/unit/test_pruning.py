"""Which versions of a key may go, as a rule over plain data."""

from hypothesis import given
from hypothesis import strategies as st

from verifier.control.pruning import prunable
from verifier.registry.facts import Key, Version
from verifier.vocabulary import RevocationReason

CUTOFF = 1000
OLD, YOUNG = 900, 1100


@st.composite
def keys(draw):
    """A key whose versions form any sound graph: one label, supersessions of others that are there."""
    count = draw(st.integers(1, 5))
    label = draw(st.integers(1, count))
    versions = []
    for number in range(1, count + 1):
        others = [other for other in range(1, count + 1) if other != number]
        superseded = number != label
        revoked = draw(st.sampled_from([None, OLD, CUTOFF, YOUNG]))
        versions.append(Version(
            ordinal=number + 10, number=number, tag=bytes([number]) * 32, issued_at=1,
            expires_at=draw(st.sampled_from([None, OLD, YOUNG])),
            superseded_at=5 if superseded else None,
            superseded_by=draw(st.sampled_from(others)) if superseded else 0,
            revoked_at=revoked, reason=None if revoked is None else draw(st.sampled_from(RevocationReason)),
        ))  # fmt: skip
    return Key(1, "key_1", 1, "acme", True, 1, draw(st.sampled_from([None, OLD, YOUNG])), (), (), {}, "vk",
               versions=tuple(versions))  # fmt: skip


@given(keys(), st.sets(st.integers(11, 15)))
def test_what_stays_is_sound_and_what_goes_was_over(key: Key, fixed: set[int]):
    gone = prunable(key, CUTOFF, fixed)
    stay = [version for version in key.versions if version not in gone]
    for version in gone:
        ends = [end for end in (version.expires_at, version.revoked_at, key.expires_at) if end is not None]
        assert min(ends) <= CUTOFF and version.ordinal not in fixed
        assert version.reason is not RevocationReason.KEY_COMPROMISE
    if stay:
        assert 1 == sum(version.superseded_at is None for version in stay)
        numbers = {version.number for version in stay}
        assert all(version.superseded_by in numbers for version in stay if version.superseded_at is not None)


def chain(*ends: int | None) -> Key:
    """Versions that supersede each other, the last one being the label."""
    versions = tuple(
        Version(ordinal=at, number=at, tag=bytes([at]) * 32, issued_at=1, expires_at=end,
                superseded_at=None if at == len(ends) else 5, superseded_by=0 if at == len(ends) else at + 1)
        for at, end in enumerate(ends, 1)
    )  # fmt: skip
    return Key(1, "key_1", 1, "acme", True, 1, None, (), (), {}, "vk", versions=versions)


def numbers(key: Key) -> list[int]:
    return [version.number for version in prunable(key, CUTOFF)]


def test_a_chain_goes_from_its_beginning():
    assert [1, 2] == numbers(chain(OLD, OLD, None))
    assert [] == numbers(chain(YOUNG, OLD, None))
    assert [1] == numbers(chain(OLD, YOUNG, OLD))
    assert [1, 2, 3] == numbers(chain(OLD, OLD, OLD))
    assert [] == numbers(chain(None, None))
