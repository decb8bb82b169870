"""Worlds to verify against: tokens, records of every kind, and the same world as a compiled view."""

import random
from collections.abc import Mapping
from dataclasses import replace

from tests.conformance.reference import Entry, World, checksum, tag_of
from tests.support.image import ABSENT, KEY_OFF, NEVER, PEPPER, REVOKED, Facts, Image, make_image
from verifier._view import View
from verifier.vocabulary import RevocationReason

HOUR_S = 3600
CLIENTS = 64


def native(number: int, prefix: str = "vk_live") -> str:
    """A well-formed token."""
    head = f"{prefix}_{number:027d}"
    return head + checksum(head)


def tagged(entries: Mapping[str, Entry], peppers: tuple[bytes, ...] = (PEPPER,)) -> dict[bytes, Entry]:
    """Key entries by tag instead of token."""
    return {tag_of(token.encode(), peppers): entry for token, entry in entries.items()}


def facts_of(entry: Entry) -> Facts:
    """An entry in the terms of the hand-made keyring images."""
    return Facts(
        client_id=entry.client_id, key_id=entry.key_id, version=entry.version,
        flags=REVOKED * entry.revoked | KEY_OFF * entry.key_off, reason=int(entry.reason) if entry.revoked else 0,
        not_before=entry.not_before or 0, end=NEVER if entry.expires_at is None else entry.expires_at,
        superseded_at=NEVER if entry.superseded_at is None else entry.superseded_at,
        superseded_by=entry.superseded_by, client=entry.client_ordinal, scopes=entry.scopes,
        metadata=entry.metadata, rules=entry.rules,
    )


def view_of(world: World) -> View:
    """The compiled view of a world."""
    absent = Facts(client_id="", key_id="", version=0, flags=ABSENT)
    base = _image(world, {tag: facts_of(entry).encode(tag) for tag, entry in world.base.items()})
    delta = None
    if world.delta:
        delta = _image(world, {
            tag: (absent if entry is None else facts_of(entry)).encode(tag) for tag, entry in world.delta.items()
        })
    view = View(
        base.map(), base.slots, (base if delta is None else delta).switches, list(world.peppers),
        list(world.prefixes.items()), world.accepts_foreign, world.revision,
        delta.map() if delta else None, delta.slots if delta else None, world.max_staleness_ms,
    )
    view.check()
    return view


def _image(world: World, records: Mapping[bytes, bytes]) -> Image:
    return make_image(records, sorted(world.clients_off), CLIENTS)


# --- A world of many kinds -------------------------------------------------------------------------------------------

SCOPES = ("read", "write", "trade", "admin:all", "a" * 128, "urn:x/y?z=1", "READ")
RULES = ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128", "0.0.0.0/0", "::/0", "fe80::/10", "198.51.100.0/25",
         "::ffff:203.0.113.0/120", "10.1.2.0/23")
OFF_CLIENTS = frozenset({3, 8, 63})


def random_entry(rng: random.Random, number: int, now_s: int) -> Entry:
    """A record whose bounds are an hour and more from now, so that a test's run does not cross them."""

    def moment(chance: float) -> int | None:
        if rng.random() >= chance:
            return None
        return now_s + rng.choice((-1000, -24, -1, 1, 24, 1000)) * HOUR_S + rng.randrange(600)

    revoked = rng.random() < 0.15
    superseded_at = moment(0.3)
    return Entry(
        client_id=rng.choice(("acme", "a", "client-" + "x" * 50)), key_id=f"key_{number:x}",
        version=rng.choice((1, 2, 127, 128, 2**31 - 1)),
        not_before=moment(0.3), expires_at=moment(0.5), superseded_at=superseded_at,
        superseded_by=0 if superseded_at is None else rng.choice((2, 300)),
        revoked=revoked, reason=rng.choice(list(RevocationReason)) if revoked else RevocationReason.UNSPECIFIED,
        key_off=rng.random() < 0.1, client_ordinal=rng.choice((0, 1, 2, 3, 7, 8, 62, 63, 64, 4000)),
        scopes=tuple(sorted(rng.sample(SCOPES, rng.randrange(len(SCOPES) + 1)))),
        metadata={f"k{i}": rng.choice(("", "v", "é", "long" * 20)) for i in range(rng.choice((0, 0, 1, 3, 16)))},
        rules=tuple(rng.sample(RULES, rng.choice((0, 0, 1, 2, 4)))),
    )


def random_world(seed: int, now_s: int, *, keys: int = 200, **settings: object) -> tuple[World, list[str]]:
    """A world with base and delta, native, imported and foreign tokens; and its tokens.

    Args:
        seed: the same seed gives the same world.
        now_s: the middle of its times.
        keys: how many records.
        settings: fields of World to set.
    """
    rng = random.Random(seed)
    tokens = [_token(rng, number) for number in range(keys)]
    base = tagged({token: random_entry(rng, number, now_s) for number, token in enumerate(tokens)})
    delta: dict[bytes, Entry | None] = {}
    for tag in rng.sample(sorted(base), keys // 5):
        entry = replace(base[tag], scopes=("read",), version=base[tag].version % 100 + 1)
        delta[tag] = rng.choice((None, entry, replace(entry, revoked=True, reason=RevocationReason.KEY_COMPROMISE)))
    fresh = [native(number) for number in range(keys, keys + 20)]
    delta.update(tagged({token: random_entry(rng, keys + i, now_s) for i, token in enumerate(fresh)}))
    world = World(
        revision=41, base=base, delta=delta, clients_off=OFF_CLIENTS, peppers=(PEPPER,),
        prefixes={"vk_live": "NATIVE", "vk_test": "NATIVE", "old": "MIXED", "old_live": "NATIVE"},
    )
    return replace(world, **settings), tokens + fresh  # type: ignore[arg-type]


def _token(rng: random.Random, number: int) -> str:
    kind = rng.random()
    if kind < 0.6:
        return native(number, rng.choice(("vk_live", "vk_test", "old_live")))
    if kind < 0.9:
        return f"old_{number}-{rng.choice(('short', 'with_underscore', 'x' * 400, 'sp ace', '~'))}"
    return f"foreign.{number}"
