"""The compiled view: lookup, verdicts, checks at load, and the in-process API."""

import random
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.image import (
    ABSENT,
    KEY_OFF,
    PEPPER,
    REVOKED,
    Facts,
    Image,
    image_of,
    make_image,
    tag_of,
    view_of,
)
from verifier._tag import checksum
from verifier._view import View
from verifier.errors import InvalidInput, UnsoundPublication
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import Phase, RevocationReason, Verdict

NOW = int(time.time())


def native(number: int, prefix: str = "vk_live") -> str:
    """A well-formed token."""
    body = f"{prefix}_{number:027d}"
    return body + checksum(body.encode()).decode()


TOKEN = native(1)


def test_answer_is_the_head_and_the_record_part() -> None:
    facts = Facts(
        scopes=("trade", "read"), metadata={"tier": "gold", "a": "b"}, end=NOW + 10_000, not_before=NOW - 10_000
    )
    answer = view_of(image_of({TOKEN: facts}), revision=9).verify(TOKEN)
    expected = facts.response(full=True)
    head = VerifyResponse(verdict=1, phase=2, revision=9)  # type: ignore[arg-type]
    got = VerifyResponse.FromString(answer.response)
    got.staleness_ms = 0
    head.MergeFrom(expected)
    assert head == got
    assert (answer.client_id, answer.key_id, answer.version, answer.scopes) == ("acme", "key_1", 1, ("read", "trade"))
    assert answer.metadata == {"tier": "gold", "a": "b"}
    assert answer.expires_at is not None and int(answer.expires_at.timestamp()) == NOW + 10_000


def test_every_one_of_many_keys_is_found_and_no_other() -> None:
    facts = {native(n): Facts(key_id=f"key_{n}") for n in range(5000)}
    view = view_of(image_of(facts))
    assert view.check() == 5000
    for token, fact in facts.items():
        assert view.verify(token).key_id == fact.key_id
    for n in range(5000, 7000):
        assert view.verify(native(n)).verdict is Verdict.UNKNOWN


def test_a_nearly_full_table_wraps_and_still_finds_all() -> None:
    tags = [bytes([255]) * 4 + random.Random(n).randbytes(28) for n in range(63)]
    image = make_image({tag: Facts(key_id=f"k{n}").encode(tag) for n, tag in enumerate(tags)}, slot_count=64)
    assert view_of(image).check() == 63


@pytest.mark.parametrize(
    ("facts", "verdict", "phase"),
    [
        (Facts(), Verdict.VALID, Phase.CURRENT),
        (Facts(flags=REVOKED, reason=1), Verdict.REVOKED, Phase.REVOKED),
        (Facts(flags=REVOKED | KEY_OFF, client=5, end=1), Verdict.REVOKED, Phase.REVOKED),
        (Facts(client=5, flags=KEY_OFF), Verdict.CLIENT_DISABLED, Phase.CURRENT),
        (Facts(client=500), Verdict.VALID, Phase.CURRENT),
        (Facts(flags=KEY_OFF, end=1), Verdict.KEY_DISABLED, Phase.EXPIRED),
        (Facts(not_before=NOW + 10_000), Verdict.NOT_YET_ACTIVE, Phase.PENDING),
        (Facts(not_before=NOW + 10_000, end=NOW - 5), Verdict.NOT_YET_ACTIVE, Phase.EXPIRED),
        (Facts(end=NOW - 5), Verdict.EXPIRED, Phase.EXPIRED),
        (Facts(superseded_at=NOW - 5, end=NOW + 10_000), Verdict.VALID, Phase.RETIRING),
        (Facts(superseded_at=NOW + 9_000, end=NOW + 10_000), Verdict.VALID, Phase.CURRENT),
        (Facts(rules=("10.0.0.0/8",)), Verdict.ADDRESS_NOT_ALLOWED, Phase.CURRENT),
    ],
)
def test_verdict_and_phase(facts: Facts, verdict: Verdict, phase: Phase) -> None:
    answer = view_of(image_of({TOKEN: facts}, clients_off=(5,))).verify(TOKEN)
    assert (verdict, phase) == (answer.verdict, answer.phase)
    assert answer.valid == (verdict is Verdict.VALID)


def test_refusals_disclose_no_scopes_and_no_metadata() -> None:
    facts = Facts(flags=REVOKED, reason=1, scopes=("read",), metadata={"k": "v"})
    answer = view_of(image_of({TOKEN: facts})).verify(TOKEN)
    assert answer.revocation_reason is RevocationReason.KEY_COMPROMISE
    assert (answer.key_id, answer.scopes, answer.metadata) == ("key_1", (), {})


@pytest.mark.parametrize(
    ("rules", "address", "allowed"),
    [
        (("10.0.0.0/8",), "10.255.1.2", True),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("192.168.1.128/25",), "192.168.1.127", False),
        (("192.168.1.128/25",), "192.168.1.128", True),
        (("0.0.0.0/0",), "1.2.3.4", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("2001:db8::/33", "10.1.1.1/32"), "2001:db8:7fff::1", True),
        (("2001:db8::/33", "10.1.1.1/32"), "2001:db8:8000::1", False),
        (("2001:db8::/33", "10.1.1.1/32"), "10.1.1.1", True),
        (("::/0",), "::1", True),
    ],
)
def test_address_rules(rules: tuple[str, ...], address: str, allowed: bool) -> None:
    answer = view_of(image_of({TOKEN: Facts(rules=rules)})).verify(TOKEN, client_address=address)
    assert answer.verdict is (Verdict.VALID if allowed else Verdict.ADDRESS_NOT_ALLOWED)


def test_scopes_are_compared_whole_and_all_are_needed() -> None:
    held = ("read", "trade", "x" * 128)
    view = view_of(image_of({TOKEN: Facts(scopes=held, metadata={"readonly": "1"})}))
    for scopes, enough in [((), True), (("read",), True), (("read", "read"), True), (("x" * 128,), True),
                           (("rea",), False), (("reads",), False), (("read", "write"), False), (("readonly",), False)]:
        expected = Verdict.VALID if enough else Verdict.INSUFFICIENT_SCOPE
        assert view.verify(TOKEN, scopes).verdict is expected, scopes


@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        ("", Verdict.MALFORMED),
        ("x" * 513, Verdict.MALFORMED),
        ("nonsense", Verdict.MALFORMED),
        (TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1"), Verdict.MALFORMED),
        (TOKEN.replace("live", "test"), Verdict.MALFORMED),
        ("vk_live_é" + TOKEN[9:], Verdict.MALFORMED),
        (b"\xff\xfe", Verdict.MALFORMED),
        ("\ud800", Verdict.MALFORMED),
        (native(2), Verdict.UNKNOWN),
        ("old_anything", Verdict.UNKNOWN),
        ("old_any_thing", Verdict.UNKNOWN),
        ("oldanything", Verdict.MALFORMED),
        ("old_bad\x00", Verdict.UNKNOWN),
        ("old_é", Verdict.MALFORMED),
    ],
)
def test_what_is_malformed_and_what_is_unknown(token: str | bytes, verdict: Verdict) -> None:
    view = view_of(image_of({TOKEN: Facts()}), prefixes=(("vk_live", "NATIVE"), ("old", "MIXED")))
    assert view.verify(token).verdict is verdict


def test_foreign_tokens_are_looked_up_only_where_the_keyring_says_so() -> None:
    image = image_of({"6f1d-foreign-42": Facts(), "a_b": Facts()})
    assert view_of(image).verify("6f1d-foreign-42").verdict is Verdict.MALFORMED
    open_view = view_of(image, accepts_foreign=True)
    assert open_view.verify("6f1d-foreign-42").valid
    assert open_view.verify("a_b").valid
    # A known NATIVE prefix keeps its rules.
    assert open_view.verify("vk_live_short").verdict is Verdict.MALFORMED


def test_delta_wins_over_base_and_can_hide_it() -> None:
    base = image_of({TOKEN: Facts(), native(2): Facts(), native(3): Facts()}, clients_off=(9,))
    delta = image_of(
        {TOKEN: Facts(flags=REVOKED, reason=9), native(2): Facts(flags=ABSENT), native(4): Facts(client=9)}
    )
    view = view_of(base, delta)
    assert view.check() == 6
    verdicts = [answer.verdict for answer in view.verify_batch([TOKEN, native(2), native(3), native(4)])]
    assert verdicts == [Verdict.REVOKED, Verdict.UNKNOWN, Verdict.VALID, Verdict.VALID]


def test_same_head_with_another_rest_is_unknown() -> None:
    tag = tag_of(TOKEN)
    image = make_image({tag[:16] + bytes(16): Facts().encode(tag[:16] + bytes(16))})
    assert view_of(image).verify(TOKEN).verdict is Verdict.UNKNOWN


@given(st.lists(st.integers(0, 99), max_size=70))
def test_batch_gives_what_single_calls_give(numbers: list[int]) -> None:
    tokens = [native(n) if n % 7 else f"junk{n}" for n in numbers]
    batch = VIEW.verify_batch(tokens, ["read"], "10.0.0.1")
    single = [VIEW.verify(token, ["read"], "10.0.0.1") for token in tokens]
    assert [(a.verdict, a.phase, a.client_id) for a in single] == [(a.verdict, a.phase, a.client_id) for a in batch]


VIEW = view_of(
    image_of({native(n): Facts(scopes=("read",) * (n % 2), rules=("10.0.0.0/24",) * (n % 3)) for n in range(50)})
)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"required_scopes": "read"}, "list"),
        ({"required_scopes": ["a b"]}, "scope"),
        ({"required_scopes": ["\ud800"]}, "not text"),
        ({"required_scopes": [5]}, "not text"),
        ({"client_address": 5}, "not text"),
        ({"required_scopes": [""]}, "scope"),
        ({"required_scopes": ["a,b"]}, "scope"),
        ({"required_scopes": ["x" * 129]}, "scope"),
        ({"required_scopes": ["x"] * 65}, "64"),
        ({"client_address": "10.0.0.1:80"}, "address"),
        ({"client_address": "10.0.0"}, "address"),
        ({"client_address": "fe80::1%eth0"}, "address"),
        ({"client_address": "10.0.0.1\0"}, "address"),
    ],
)
def test_bad_arguments_are_errors_and_not_verdicts(arguments: dict[str, object], part: str) -> None:
    with pytest.raises(InvalidInput, match=part):
        VIEW.verify(TOKEN, **arguments)  # type: ignore[arg-type]


def test_a_token_of_another_type_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="int"):
        VIEW.verify(5)  # type: ignore[arg-type]


def test_staleness_counts_from_the_last_confirmation() -> None:
    view = view_of(image_of({TOKEN: Facts()}))
    time.sleep(0.03)
    assert view.staleness_ms >= 20
    assert view.verify(TOKEN).staleness_ms >= 20
    view.confirm()
    assert view.staleness_ms < 20


# --- checks at load --------------------------------------------------------------------------------------------------

FACTS = {native(n): Facts(scopes=("read",), rules=("10.0.0.0/8",) * (n % 2)) for n in range(40)}


def damaged(change: int, value: bytes, image: Image | None = None) -> View:
    """A view over an image in which some bytes were changed."""
    image = image or image_of(FACTS)
    data = bytearray(image.data)
    data[change : change + len(value)] = value
    return view_of(Image(bytes(data), image.slots, image.switches, image.offsets))


def test_sound_image_passes() -> None:
    assert damaged(0, b"").check() == 40


@pytest.mark.parametrize(
    ("field", "value", "code", "text"),
    [
        (16 + 16, b"\x20\x00", "FEATURE", "flag"),          # an unknown flag
        (16 + 16, b"\x10\x00", "FEATURE", "flag"),          # ABSENT in a base
        (16 + 48, b"\xff\x7f", "FORMAT", "damaged"),        # l1 > l2
        (16 + 19, b"\xff", "FORMAT", "damaged"),            # rules without the flag, or more than there are
        (5, b"\x00\xff", "FORMAT", "another key"),          # the key changed under its slot
    ],
)
def test_damaged_records_are_refused(field: int, value: bytes, code: str, text: str) -> None:
    image = image_of(FACTS)
    first = min(image.offsets.values())
    with pytest.raises(UnsoundPublication, match=text) as caught:
        damaged(first + field, value, image).check()
    assert caught.value.code == code


def test_record_that_leaves_the_map_is_refused() -> None:
    tag = tag_of(TOKEN)
    record = bytearray(Facts().encode(tag))
    image = make_image({tag: bytes(record)})
    offset = image.offsets[tag] + 16 + 50
    with pytest.raises(UnsoundPublication, match="outside"):
        damaged(offset, b"\xff\xff", image).check()


def test_slots_that_lead_astray_are_refused() -> None:
    image = image_of(FACTS)
    begin = image.slots[0] + 48
    slots = list(struct.unpack_from("<64Q", image.data, begin))
    used = next(at for at, slot in enumerate(slots[:-1]) if slot and not slots[at + 1])
    empty = next(at for at, slot in enumerate(slots) if not slot)
    with pytest.raises(UnsoundPublication, match="outside"):
        damaged(begin + 8 * used, struct.pack("<Q", (len(image.data) + 1) << 20 | slots[used] & 0xFFFFF), image).check()
    with pytest.raises(UnsoundPublication, match="many records"):
        damaged(begin + 8 * used, bytes(8), image).check()
    # One slot moved to a place where no search for its key arrives.
    data = bytearray(image.data)
    data[begin + 8 * used : begin + 8 * used + 8] = bytes(8)
    data[begin + 8 * empty : begin + 8 * empty + 8] = struct.pack("<Q", slots[used])
    with pytest.raises(UnsoundPublication, match="reached"):
        view_of(Image(bytes(data), image.slots, image.switches, image.offsets)).check()


def test_a_table_without_an_empty_slot_is_refused() -> None:
    image = image_of(FACTS)
    begin = image.slots[0] + 48
    slots = struct.unpack_from("<64Q", image.data, begin)
    some = next(slot for slot in slots if slot)
    data = bytearray(image.data)
    data[begin : begin + 512] = struct.pack("<64Q", *(slot or some for slot in slots))
    with pytest.raises(UnsoundPublication):
        view_of(Image(bytes(data), image.slots, image.switches, image.offsets)).check()


@pytest.mark.parametrize("block", [(0, 4096), (4112, 10**9), (-8, 4096), (4113, 96)])
def test_blocks_elsewhere_are_refused(block: tuple[int, int]) -> None:
    image = image_of(FACTS)
    with pytest.raises(UnsoundPublication):
        View(image.map(), block, image.switches, [PEPPER], [], False, 1)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_flipped_byte_makes_the_view_crash(position: int, mask: int) -> None:
    """Whatever is damaged, the view is refused or answers: it never reads outside the map."""
    image = IMAGE
    data = bytearray(image.data)
    data[START_OF_RECORDS + position % (len(data) - START_OF_RECORDS)] ^= mask
    try:
        view = view_of(Image(bytes(data), image.slots, image.switches, image.offsets))
        assert view.check() == 40
    except UnsoundPublication:
        return
    assert len(view.verify_batch(list(FACTS), ["read"], "10.0.0.1")) == 40


IMAGE = image_of(FACTS)
START_OF_RECORDS = min(IMAGE.offsets.values())
