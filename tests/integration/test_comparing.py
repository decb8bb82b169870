"""Comparing publications: the compiled pass against the same rules in plain Python, on real keyring files."""

import dataclasses
import hashlib
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifier.control.comparing import Keyrings, compare, is_wider
from verifier.errors import NotFound, UnsoundPublication
from verifier.keyring.builder import build_keyring
from verifier.keyring.records import Record, encode_record
from verifier.vocabulary import RevocationReason

NOW = 1_800_000_000
ENDS = st.sampled_from([None, NOW - 1, NOW, NOW + 1, NOW + 1000])
RULES = st.sampled_from([(), ("10.0.0.0/8",), ("10.1.0.0/16",), ("10.1.0.0/16", "2001:db8::/32"), ("0.0.0.0/0",)])


def tag(number):
    return hashlib.sha256(b"%d" % number).digest()


@st.composite
def records(draw, number):
    if draw(st.integers(0, 5)) == 0:
        return None
    revoked = draw(st.integers(0, 4)) == 0
    return Record(
        client_id="acme", key_id=f"key_{number}", version=1,
        not_before=draw(st.sampled_from([None, NOW - 5, NOW + 500])), expires_at=draw(ENDS),
        revoked=revoked, reason=RevocationReason.SUPERSEDED if revoked else None,
        key_off=draw(st.integers(0, 4)) == 0, client_ordinal=draw(st.integers(0, 3)), version_ordinal=number,
        scopes=tuple(draw(st.sets(st.sampled_from("abc"), max_size=3))), rules=draw(RULES),
        metadata=draw(st.sampled_from([{}, {"plan": "gold"}])),
    )  # fmt: skip


@st.composite
def worlds(draw, size=12):
    """What a publication serves: records by number, and the clients that are off."""
    found = {number: record for number in range(size) if (record := draw(records(number))) is not None}
    return found, draw(st.sets(st.integers(0, 4), max_size=2))


def build(folder, rows, off=(), **options):
    description = build_keyring(
        folder, [(tag(number), encode_record(record, tag(number))) for number, record in rows.items()], peppers=["p1"],
        prefixes=[], accepts_foreign=False, clients_off=sorted(off), client_count=5, **options,
    )  # fmt: skip
    return description.sha256, folder / f"{description.sha256}.mdb"


def as_delta(folder, before, after, off):
    """Write a world as a delta on another one."""
    digest, base = build(folder, before)
    rows = {number: record for number, record in after.items() if before.get(number) != record}
    gone = Record(client_id="", key_id="", version=0, absent=True)
    rows |= {number: gone for number in before if number not in after}
    return Keyrings(base, build(folder, rows, off, kind="delta", base=digest)[1])


def judged(world, number):
    records, off = world
    record = records.get(number)
    if record is None:
        return False, False, 0
    denied = record.revoked or record.key_off or record.client_ordinal in off
    end = record.expires_at or 2**32
    return not denied and end > NOW, denied, end


def oracle(before, after):
    counts = dict.fromkeys(("gained", "lost", "denied", "extended", "widened", "before_active", "after_active",
                            "lost_used_24h", "denials_kept"), 0)  # fmt: skip
    for number in set(before[0]) | set(after[0]):
        (was, was_denied, was_end), (now, now_denied, now_end) = judged(before, number), judged(after, number)
        counts["before_active"] += was
        counts["after_active"] += now
        counts["gained"] += now and not was
        counts["lost"] += was and not now
        counts["denied"] += now_denied and not was_denied and number in before[0]
        counts["extended"] += was and now and now_end > was_end
        counts["widened"] += was and now and is_wider(before[0][number], after[0][number])
    counts["dead_on_arrival"] = sum(
        (record.expires_at or 2**32) <= (record.not_before or 0) for record in after[0].values()
    )
    return counts


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(before=worlds(), after=worlds(), middle=worlds())
def test_the_counts_are_those_of_the_rules(tmp_path_factory, before, after, middle):
    folder = tmp_path_factory.mktemp("keyrings")
    expected = oracle(before, after)
    first, second = (Keyrings(build(folder, *world)[1]) for world in (before, after))
    assert expected == compare(first, second, NOW).counts()
    first = as_delta(folder, middle[0], *before)
    assert expected == compare(first, second, NOW).counts()
    assert expected == compare(first, as_delta(folder, middle[0], *after), NOW).counts()
    assert oracle(({}, set()), after) == compare(None, second, NOW).counts()
    same = compare(second, second, NOW).counts()
    assert {0} == {same[name] for name in ("gained", "lost", "denied", "extended", "widened")}


def plain(number, **fields):
    return Record(**{"client_id": "acme", "key_id": f"key_{number}", "version": number, **fields})


def test_examples_name_what_changed(tmp_path):
    before = {n: plain(n, expires_at=NOW + 9, scopes=("a",)) for n in range(1, 6)}
    after = {
        1: dataclasses.replace(before[1], revoked=True), 2: dataclasses.replace(before[2], expires_at=NOW + 10),
        3: dataclasses.replace(before[3], scopes=("a", "b")), 4: before[4], 6: plain(6),
    }  # fmt: skip
    first, second = (Keyrings(build(tmp_path, rows)[1]) for rows in (before, after))
    difference = compare(first, second, NOW, examples_max=20)
    assert {
        ("lost", "key_1", 1), ("denied", "key_1", 1), ("extended", "key_2", 2), ("widened", "key_3", 3),
        ("lost", "key_5", 5), ("gained", "key_6", 6),
    } == {(change.kind, change.key_id, change.version) for change in difference.examples}  # fmt: skip
    assert 2 == len(compare(first, second, NOW, examples_max=2).examples)
    assert difference.counts() == compare(first, second, NOW).counts()


@pytest.mark.parametrize(("before", "after", "wider"), [
    ({}, {}, False), ({"scopes": ("a",)}, {"scopes": ("a", "b")}, True),
    ({"scopes": ("a", "b")}, {"scopes": ("b",)}, False),
    ({"scopes": ("a",)}, {"scopes": ("b",)}, True), ({"rules": ("10.0.0.0/8",)}, {}, True),
    ({}, {"rules": ("10.0.0.0/8",)}, False), ({"rules": ("10.0.0.0/8",)}, {"rules": ("10.1.0.0/16",)}, False),
    ({"rules": ("10.1.0.0/16",)}, {"rules": ("10.0.0.0/8",)}, True),
    ({"rules": ("10.0.0.0/8",)}, {"rules": ("2001:db8::/32",)}, True),
    ({"metadata": {"a": "b"}}, {"metadata": {"a": "c"}}, False),
])  # fmt: skip
def test_what_is_wider(before, after, wider):
    assert wider == is_wider(plain(1, **before), plain(1, **after))


def test_damaged_files_are_refused_and_never_crash(tmp_path):
    _, good = build(tmp_path, {n: plain(n) for n in range(1, 201)})
    data = good.read_bytes()
    bad = tmp_path / "bad.mdb"
    generator = random.Random(3)
    refused = 0
    for _ in range(400):
        at = generator.randrange(len(data))
        bad.write_bytes(data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1 :])
        try:
            compare(Keyrings(good), Keyrings(bad), NOW)
        except UnsoundPublication:
            refused += 1
    assert 0 < refused < 400
    for length in (0, 100, 4096, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:length])
        with pytest.raises(UnsoundPublication):
            compare(Keyrings(bad), Keyrings(good), NOW)
    with pytest.raises(NotFound):
        compare(Keyrings(tmp_path / "missing.mdb"), Keyrings(good), NOW)


def test_progress_and_interruption(tmp_path):
    rows = {n: plain(n) for n in range(1, 300_001)}
    _, path = build(tmp_path, rows)
    told = []
    compare(None, Keyrings(path), NOW, progress=lambda *step: told.append(step))
    assert [("compare", 1 << 18, 300_000)] == told

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(None, Keyrings(path), NOW, progress=stop)
