"""The decision table of Verify as data: one row for each boundary.

``t`` is the second at which a row is asked; all times of its record are relative to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.conformance.reference import Entry, World, checksum
from tests.conformance.requests import BYTES, VARINT, piece, varint
from tests.conformance.worlds import CLIENTS, native, tagged
from tests.support.image import PEPPER
from verifier.vocabulary import Phase, RevocationReason, Verdict

L0, L1, L2 = range(3)
OFF_CLIENT = 9
MANY_SCOPES = tuple(f"scope:{i:02}" for i in range(64))
EntryAt = Callable[[int], Entry]


@dataclass(frozen=True)
class Ask:
    """What a row asks of its key."""

    scopes: tuple[str, ...] = ()
    address: str = ""
    probe: bool = False


@dataclass(frozen=True)
class Row:
    """One row: a record, a question, and what must be answered."""

    name: str
    entry: EntryAt | None
    verdict: Verdict
    phase: Phase
    ask: Ask = field(default_factory=Ask)
    token: Callable[[str], bytes] = str.encode  # from the row's own token to what is presented

    @property
    def level(self) -> int:
        """How much is told."""
        return L0 if self.phase is Phase.UNSPECIFIED else L2 if self.verdict is Verdict.VALID else L1


def key(**facts: object) -> EntryAt:
    """A record whose times are given as seconds from the moment of asking."""
    offsets = {name: facts.pop(name) for name in ("not_before", "expires_at", "superseded_at") if name in facts}

    def entry(t: int) -> Entry:
        settings = {
            "client_id": "acme", "key_id": "key_1", "scopes": ("read", "trade"), "metadata": {"tier": "gold"}, **facts,
        }
        return Entry(**settings, **{name: t + offset for name, offset in offsets.items()})  # type: ignore[arg-type,operator]

    return entry


def ask(*scopes: str, address: str = "", probe: bool = False) -> Ask:
    return Ask(scopes, address, probe)


def damaged(token: str) -> bytes:
    """A token with another last digit."""
    return (token[:-1] + ("1" if token[-1] == "0" else "0")).encode()


def with_secret(secret: str) -> bytes:
    """A token with this secret and the checksum that belongs to it."""
    head = f"vk_live_{secret}"
    return (head + checksum(head)).encode()


V, P = Verdict, Phase
UNSET = Phase.UNSPECIFIED
COMPROMISE = {"revoked": True, "reason": RevocationReason.KEY_COMPROMISE}
RULED = {"rules": ("10.0.0.0/8", "2001:db8::/32")}
RETIRING = {"superseded_at": -10, "superseded_by": 2, "expires_at": 60}

ROWS = [
    # V1: what is no token
    Row("V1 empty", key(), V.MALFORMED, UNSET, token=lambda _: b""),
    Row("V1 513 bytes", key(), V.MALFORMED, UNSET, token=lambda token: token.encode() + b"0" * (513 - len(token))),
    Row("V1 512 bytes, bad checksum", key(), V.MALFORMED, UNSET, token=lambda t: t.encode() + b"0" * (512 - len(t))),
    Row("V1 not ASCII", key(), V.MALFORMED, UNSET, token=lambda token: token.encode() + b"\xc3\xa9"),
    Row("V1 not UTF-8", key(), V.MALFORMED, UNSET, token=lambda token: token.encode()[:-1] + b"\xff"),
    Row("V1 checksum wrong", key(), V.MALFORMED, UNSET, token=damaged),
    Row("V1 secret changed", key(), V.MALFORMED, UNSET, token=lambda t: t.replace("_0", "_1", 1).encode()),
    Row("V1 cut short", key(), V.MALFORMED, UNSET, token=lambda token: token[:-1].encode()),
    Row("V1 secret too short", key(), V.MALFORMED, UNSET, token=lambda _: b"vk_live_0000000mLq17"),
    Row("V1 secret of 26 digits, checksum right", key(), V.MALFORMED, UNSET, token=lambda _: with_secret("0" * 26)),
    Row("V2 secret of 27 digits", key(), V.UNKNOWN, UNSET, token=lambda _: with_secret("0" * 26 + "z")),
    Row("V2 secret of 60 digits", key(), V.UNKNOWN, UNSET, token=lambda _: with_secret("a" * 60)),
    Row("V1 secret with a sign", key(), V.MALFORMED, UNSET, token=lambda _: with_secret("0" * 26 + "-")),
    Row("V1 space after it", key(), V.MALFORMED, UNSET, token=lambda token: token.encode() + b" "),
    Row("V1 unknown prefix", key(), V.MALFORMED, UNSET, token=lambda _: native(7, "sk_live").encode()),
    Row("V1 prefix in capitals", key(), V.MALFORMED, UNSET, token=lambda t: t.replace("vk", "VK").encode()),
    Row("V1 no prefix", key(), V.MALFORMED, UNSET, token=lambda t: t.rpartition("_")[2].encode()),
    # V2: what is not known
    Row("V2 no record", None, V.UNKNOWN, UNSET),
    Row("V2 MIXED prefix, not native", None, V.UNKNOWN, UNSET, token=lambda _: b"old_whatever"),
    Row("V2 scopes and address do not matter", None, V.UNKNOWN, UNSET, ask("read", address="10.0.0.1")),
    # V3 to V12, one by one
    Row("V3 revoked", key(revoked=True), V.REVOKED, P.REVOKED),
    Row("V3 compromised", key(**COMPROMISE), V.REVOKED, P.REVOKED),
    Row("V4 client off", key(client_ordinal=OFF_CLIENT), V.CLIENT_DISABLED, P.CURRENT),
    Row("V4 client off, retiring", key(client_ordinal=OFF_CLIENT, **RETIRING), V.CLIENT_DISABLED, P.RETIRING),
    Row("V4 client beyond the switches", key(client_ordinal=10**6), V.VALID, P.CURRENT),
    Row("V4 first client beyond the switches", key(client_ordinal=CLIENTS), V.VALID, P.CURRENT),
    Row("V4 same bit of a later byte", key(client_ordinal=OFF_CLIENT + 8), V.VALID, P.CURRENT),
    Row("V4 same bit beyond the switches", key(client_ordinal=OFF_CLIENT + CLIENTS), V.VALID, P.CURRENT),
    Row("V5 key off", key(key_off=True), V.KEY_DISABLED, P.CURRENT),
    Row("V5 key off, pending", key(key_off=True, not_before=60), V.KEY_DISABLED, P.PENDING),
    Row("V5 key off, expired", key(key_off=True, expires_at=-60), V.KEY_DISABLED, P.EXPIRED),
    Row("V8 rules, no address", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT),
    Row("V9 scope not held", key(), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("write")),
    Row("V9 one of two not held, retiring", key(**RETIRING), V.INSUFFICIENT_SCOPE, P.RETIRING, ask("read", "write")),
    Row("V12 valid", key(), V.VALID, P.CURRENT),
    # the order of the checks
    Row("B22 revoked before client off and expired", key(client_ordinal=OFF_CLIENT, expires_at=-1, key_off=True,
                                                         **COMPROMISE), V.REVOKED, P.REVOKED),
    Row("client off before key off", key(client_ordinal=OFF_CLIENT, key_off=True), V.CLIENT_DISABLED, P.CURRENT),
    Row("key off before expired", key(key_off=True, expires_at=-1), V.KEY_DISABLED, P.EXPIRED),
    Row("expired before address", key(expires_at=-1, **RULED), V.EXPIRED, P.EXPIRED),
    Row("pending before address", key(not_before=1, **RULED), V.NOT_YET_ACTIVE, P.PENDING),
    Row("address before scope", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT, ask("write", address="192.0.2.1")),
    # B1 to B3: each bound, one second before and at it
    Row("B1 activation, the second before", key(not_before=1), V.NOT_YET_ACTIVE, P.PENDING),
    Row("B1 activation", key(not_before=0), V.VALID, P.CURRENT),
    Row("B2 end, the second before", key(expires_at=1), V.VALID, P.CURRENT),
    Row("B2 end", key(expires_at=0), V.EXPIRED, P.EXPIRED),
    Row("B3 supersession, the second before", key(superseded_at=1, superseded_by=2), V.VALID, P.CURRENT),
    Row("B3 supersession", key(superseded_at=0, superseded_by=2), V.VALID, P.RETIRING),
    # B4, B5: two versions of one key at the activation of the second
    Row("B4 old, the second before", key(superseded_at=1, superseded_by=2, expires_at=100), V.VALID, P.CURRENT),
    Row("B4 new, the second before", key(version=2, not_before=1), V.NOT_YET_ACTIVE, P.PENDING),
    Row("B4 old", key(superseded_at=0, superseded_by=2, expires_at=99), V.VALID, P.RETIRING),
    Row("B4 new", key(version=2, not_before=0), V.VALID, P.CURRENT),
    Row("B5 no overlap, old", key(superseded_at=0, superseded_by=2, expires_at=0), V.EXPIRED, P.EXPIRED),
    Row("B5 no overlap, old, the second before", key(superseded_at=1, superseded_by=2, expires_at=1), V.VALID,
        P.CURRENT),
    # B6: an empty window is never VALID
    Row("B6 before it", key(not_before=10, expires_at=5), V.NOT_YET_ACTIVE, P.PENDING),
    Row("B6 between end and activation", key(not_before=10, expires_at=-5), V.NOT_YET_ACTIVE, P.EXPIRED),
    Row("B6 at both", key(not_before=0, expires_at=0), V.EXPIRED, P.EXPIRED),
    Row("B6 after it", key(not_before=-5, expires_at=-10), V.EXPIRED, P.EXPIRED),
    # B9, B10, B13, B16: what rotation leaves behind
    Row("B9 superseded, end ahead", key(superseded_at=-5, superseded_by=2, expires_at=1), V.VALID, P.RETIRING),
    Row("B10 successor revoked", key(version=2, revoked=True), V.REVOKED, P.REVOKED),
    Row("B10 its predecessor goes on", key(**RETIRING), V.VALID, P.RETIRING),
    Row("B16 manual clock: retiring without end", key(superseded_at=-10, superseded_by=2), V.VALID, P.RETIRING),
    # B20: scopes
    Row("B20 none required", key(scopes=()), V.VALID, P.CURRENT),
    Row("B20 required twice", key(), V.VALID, P.CURRENT, ask("read", "read")),
    Row("B20 all held", key(), V.VALID, P.CURRENT, ask("trade", "read")),
    Row("B20 no such scope", key(), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("nonesuch")),
    Row("B20 a prefix of a held one", key(), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("rea")),
    Row("B20 longer than a held one", key(), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("reads")),
    Row("B20 other case", key(), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("READ")),
    Row("B20 key without scopes", key(scopes=()), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("read")),
    Row("B20 64 of 64", key(scopes=MANY_SCOPES), V.VALID, P.CURRENT, Ask(MANY_SCOPES)),
    Row("B20 the longest scope", key(scopes=("x" * 128,)), V.VALID, P.CURRENT, ask("x" * 128)),
    Row("B20 almost the longest scope", key(scopes=("x" * 128,)), V.INSUFFICIENT_SCOPE, P.CURRENT, ask("x" * 127)),
    # B21: addresses
    Row("B21 address missing", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT, ask()),
    Row("B21 inside", key(**RULED), V.VALID, P.CURRENT, ask(address="10.255.255.255")),
    Row("B21 the address after", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT, ask(address="11.0.0.0")),
    Row("B21 the address before", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT, ask(address="9.255.255.255")),
    Row("B21 mapped form", key(**RULED), V.VALID, P.CURRENT, ask(address="::ffff:10.0.0.1")),
    Row("B21 mapped form in hexadecimal", key(**RULED), V.VALID, P.CURRENT, ask(address="::FFFF:a00:1")),
    Row("B21 IPv6 inside", key(**RULED), V.VALID, P.CURRENT, ask(address="2001:db8:ffff::1")),
    Row("B21 IPv6 outside", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT, ask(address="2001:db9::1")),
    Row("B21 IPv4-compatible form is not IPv4", key(**RULED), V.ADDRESS_NOT_ALLOWED, P.CURRENT,
        ask(address="::10.0.0.1")),
    Row("B21 one address", key(rules=("192.0.2.7/32",)), V.VALID, P.CURRENT, ask(address="192.0.2.7")),
    Row("B21 next to one address", key(rules=("192.0.2.7/32",)), V.ADDRESS_NOT_ALLOWED, P.CURRENT,
        ask(address="192.0.2.6")),
    Row("B21 prefix within a byte", key(rules=("10.1.2.0/23",)), V.VALID, P.CURRENT, ask(address="10.1.3.255")),
    Row("B21 after a prefix within a byte", key(rules=("10.1.2.0/23",)), V.ADDRESS_NOT_ALLOWED, P.CURRENT,
        ask(address="10.1.4.0")),
    Row("B21 any IPv4", key(rules=("0.0.0.0/0",)), V.VALID, P.CURRENT, ask(address="203.0.113.1")),
    Row("B21 any IPv4 is no IPv6", key(rules=("0.0.0.0/0",)), V.ADDRESS_NOT_ALLOWED, P.CURRENT, ask(address="::1")),
    Row("B21 address without rules", key(), V.VALID, P.CURRENT, ask(address="203.0.113.1")),
    # B23: a probe gets the same answer
    Row("B23 probe, valid", key(), V.VALID, P.CURRENT, ask(probe=True)),
    Row("B23 probe, revoked", key(**COMPROMISE), V.REVOKED, P.REVOKED, ask(probe=True)),
    # times at the edges of what records can hold
    Row("the last end that can be written", lambda t: Entry("acme", "key_1", expires_at=0xFFFFFFFE), V.VALID,
        P.CURRENT),
    Row("the first second there is", lambda t: Entry("acme", "key_1", not_before=1), V.VALID, P.CURRENT),
]


def token_of(number: int) -> str:
    """The token of a row."""
    return native(1000 + number)


def world_at(t: int, revision: int = 7) -> World:
    """One keyring with the records of all rows, for asking at second ``t``."""
    entries = {token_of(i): row.entry(t) for i, row in enumerate(ROWS) if row.entry is not None}
    return World(
        revision=revision, base=tagged(entries), clients_off=frozenset({OFF_CLIENT}), peppers=(PEPPER,),
        prefixes={"vk_live": "NATIVE", "old": "MIXED"},
    )


def message_of(number: int) -> bytes:
    """The request of a row."""
    row = ROWS[number]
    presented = row.token(token_of(number))
    out = piece(1, BYTES, presented) if presented else b""
    out += b"".join(piece(2, BYTES, scope.encode()) for scope in row.ask.scopes)
    if row.ask.address:
        out += piece(3, BYTES, row.ask.address.encode())
    return out + (piece(5, VARINT, varint(1)) if row.ask.probe else b"")
