"""Steps that change keys and clients: issuing, rotating, switching, revoking."""

from typing import Any

from tests.support.history.drawing import (
    DAY,
    HOUR,
    SPANS,
    Draw,
    change,
    end_of,
    numbered,
    on_key,
    remember,
    some_key,
    some_token,
    some_version,
    step,
)  # fmt: skip
from tests.support.history.model import COMPROMISE, Card, Where
from tests.support.history.world import World, digest
from tests.support.life_model import Life, Secret
from verifier.control import clients, issuing, keys, revoking, rotation
from verifier.control.keys import KeyUpdate
from verifier.control.reinstating import reinstate
from verifier.control.rotating import RotateTerms
from verifier.control.rotation import NewSecret
from verifier.control.terms import Terms
from verifier.control.usage import UsageReport, WatchedUse, apply_report
from verifier.registry import queries
from verifier.vocabulary import RevocationReason, Verdict

TOKENS_MAX, CLIENTS_MAX = 110, 6
SCOPES = ["read", "trade", "admin"]
RULES = [(), (), (), ("10.0.0.0/8",), ("192.0.2.0/24",)]
REASONS = list(RevocationReason)


@step(1)
def client(world: World, draw: Draw) -> str:
    if len(world.book.clients) >= CLIENTS_MAX:
        return ""
    name = world.name("client")
    return world.both(lambda: world.act(clients.create_client, name),
                      lambda _: world.book.clients.update({name: True}))


@step(7)
def issue(world: World, draw: Draw) -> str:
    if not world.book.clients or len(world.book.places()) >= TOKENS_MAX:
        return ""
    owner, now = draw.choice(sorted(world.book.clients)), world.now
    begins = now + draw.choice([1, HOUR]) if draw.random() < 0.2 else None
    own = now + draw.choice([2 * HOUR, 3 * DAY, 40 * DAY]) if draw.random() < 0.4 else None
    ends = now + draw.choice([3 * HOUR, 5 * DAY, 60 * DAY]) if draw.random() < 0.2 else None
    scopes, rules = tuple(sorted(draw.sample(SCOPES, draw.randrange(4)))), draw.choice(RULES)
    terms = Terms(scopes, rules, {"n": str(draw.randrange(9))}, "vk_live", begins, own, ends)
    token = some_token(world, draw)

    def theirs(done: Any) -> None:
        world.book.check_unused(token)
        key_id = done[0].key.key_id
        life = Life(end_of(ends), [Secret(1, now, begins or 0, end_of(own))])
        world.book.cards[key_id] = Card(
            key_id, owner, life, scopes=scopes, metadata=tuple(terms.metadata.items()), rules=rules, tokens={1: token}
        )

    said = world.both(
        lambda: world.act(issuing.issue_key, world.peppers(), owner, terms, secret_sha256=digest(token)), theirs
    )
    return f"{said} {owner} {len(world.tokens)} {begins} {own} {ends}"


@step(12)
def rotate(world: World, draw: Draw) -> str:
    key_id = some_key(world, draw)
    if not key_id or len(world.book.places()) >= TOKENS_MAX:
        return ""
    leak = draw.random() < 0.12
    clock = draw.choice(["fixed", "fixed", "on_first_use", "manual"])
    overlap, pending = draw.choice(SPANS), draw.choice([*SPANS, 3 * DAY, 30 * DAY, 30 * DAY])
    at = world.now + draw.choice([-1, 0, 1, HOUR, 8 * HOUR]) if draw.random() < 0.3 else None
    life = draw.choice([None, None, None, 0, 2 * HOUR, 9 * DAY])
    force, gap = draw.random() < 0.3, draw.random() < 0.2
    token = some_token(world, draw)
    if clock == "on_first_use" and draw.random() < 0.7:
        use(world, draw)  # so that somebody reports
    if leak:
        terms = RotateTerms(reason=RevocationReason.KEY_COMPROMISE, expires_in_s=life, force=force)
        clock, overlap, pending, at, gap = "fixed", 0, 0, None, False
    else:
        terms = RotateTerms(overlap, clock, pending, at, life, force=force, allow_gap=gap)

    def rule(card: Card) -> None:
        if not leak and clock == "on_first_use" and not force:
            world.book.check_reports(world.now)
        world.book.check_unused(token)
        card.life.rotate(clock, overlap, pending, at, life, leak=leak, force=force, gap=gap)
        card.tokens[card.life.label.number] = token

    said = change(world, key_id, lambda: world.act(rotation.rotate, key_id, terms,
                                                   NewSecret(world.peppers(), digest(token))), rule)
    return f"{said} {terms}"


@step(3)
def promote(world: World, draw: Draw) -> str:
    return on_key(world, draw, lambda key_id: world.act(rotation.promote, key_id), lambda card: card.life.promote())


@step(4)
def cancel(world: World, draw: Draw) -> str:
    return on_key(world, draw, lambda key_id: world.act(rotation.cancel, key_id), lambda card: card.life.cancel())


@step(4)
def retire(world: World, draw: Draw) -> str:
    where = some_version(world, draw)
    if where is None:
        return ""
    at = None if draw.random() < 0.5 else world.now + draw.choice([-5, 0, 1, HOUR])
    return change(
        world, where[0], lambda: world.act(rotation.retire, *where, at, force=True),
        lambda card: card.life.retire(numbered(card, where[1]), at),
    )  # fmt: skip


@step(5)
def key_rollback(world: World, draw: Draw) -> str:
    where = some_version(world, draw)
    if where is None:
        return ""
    to, overlap = draw.choice([None, None, where[1]]), draw.choice(SPANS)
    return change(
        world, where[0], lambda: world.act(rotation.roll_back_key, where[0], to, overlap),
        lambda card: card.life.roll_back(numbered(card, to) if to else None, overlap),
    )  # fmt: skip


@step(6)
def use(world: World, draw: Draw) -> str:
    """A node reports the first use of some versions, now or some time ago."""
    places = world.book.places()
    awaited = [card.tokens[card.life.label.number] for card in world.book.cards.values()
               if card.life.label.used is None and any(secret.ceiling for secret in card.life.secrets)]
    some = awaited if awaited and draw.random() < 0.6 else list(places)
    chosen = draw.sample(some, min(len(some), draw.choice([0, 1, 1, 3])))
    at = max(1, world.now - draw.choice([0, 0, 1, HOUR]))
    name = world.name("node")
    with world.registry.read() as connection:
        ordinals = {
            version.ordinal: places[token][0].key_id
            for token in chosen
            for version in queries.find_key(connection, places[token][0].key_id).versions
            if version.number == places[token][1].number
        }
    report = UsageReport(
        name, 1, 1, (world.now - 60) * 1000, world.now * 1000, watched=tuple(
            WatchedUse(ordinal, Verdict.VALID, at) for ordinal in sorted(ordinals)
        ),
    )  # fmt: skip

    def theirs(_: Any) -> None:
        world.book.reported_at = max(world.book.reported_at, world.now)
        for token in chosen:
            card, secret = places[token]
            card.life.now = world.now
            if secret.used is None or at < secret.used:
                card.life.use(secret, at)

    return f"{world.both(lambda: world.act(apply_report, report), theirs)} {[places[t][1].number for t in chosen]}"


@step(6)
def update(world: World, draw: Draw) -> str:
    key_id = some_key(world, draw)
    if not key_id:
        return ""
    values: dict[str, Any] = {}
    kind = draw.randrange(5)
    if kind == 0:
        values["scopes"] = tuple(sorted(draw.sample(SCOPES, draw.randrange(4))))
    elif kind == 1:
        values["rules"] = draw.choice(RULES)
    elif kind == 2:
        values["metadata"] = (("n", str(draw.randrange(9))),)
    own = world.now + draw.choice([-HOUR, 1, HOUR, 3 * DAY]) if kind == 3 else None
    ends = world.now + draw.choice([-HOUR, 1, 2 * HOUR, 9 * DAY]) if kind == 4 else None
    extend = draw.random() < 0.5
    asked = {name: dict(value) if name == "metadata" else value for name, value in values.items()}
    asked |= {name: value for name, value in (("expires_at", own), ("key_expires_at", ends)) if value is not None}

    def rule(card: Card) -> None:
        world.book.update_ends(card, own, ends, extend=extend)
        for name, value in values.items():
            setattr(card, name, value)

    said = change(world, key_id, lambda: world.act(keys.update_key, key_id, KeyUpdate(extend=extend, **asked)), rule)
    return f"{said} {asked} {extend}"


# --- Denials ---------------------------------------------------------------------------------------------------------


@step(3)
def switch_key(world: World, draw: Draw) -> str:
    on = draw.random() < 0.6
    return on_key(world, draw, lambda key_id: world.act(keys.set_key_enabled, key_id, on),
                  lambda card: setattr(card, "enabled", on)) + f" {on}"


@step(3)
def switch_client(world: World, draw: Draw) -> str:
    if not world.book.clients:
        return ""
    name, on = draw.choice(sorted(world.book.clients)), draw.random() < 0.6
    said = world.both(lambda: world.act(clients.set_client_enabled, name, on),
                      lambda _: world.book.clients.update({name: on}))
    return f"{said} {name} {on}"


@step(8)
def revoke(world: World, draw: Draw) -> str:
    """Revoke by name, client, token or time of issue."""
    book, now = world.book, world.now
    if not book.cards:
        return ""
    reason = draw.choice([*REASONS, RevocationReason.UNSPECIFIED, RevocationReason.KEY_COMPROMISE])
    selection = _selection(world, draw)
    if selection.client_ids or selection.created_after is not None:  # a great many: not for ever, mostly
        reason = draw.choice([reason, RevocationReason.UNSPECIFIED])
    why = reason.name.lower()

    gone: list[tuple[Where, str]] = []

    def theirs(done: Any) -> None:
        places = book.places().values()
        chosen = [(card, secret) for card, secret in places if _is_chosen(selection, why, card, secret, now)]
        for card, secret in chosen:
            before = secret.why
            card.life.kill(secret, why)
            if secret.why != before:
                gone.append(((card.key_id, secret.number), card.tokens[secret.number]))
        if why == COMPROMISE:
            book.buried.update(token for _, token in gone)
        assert done[0].count == len(gone), f"revoked {done[0].count}, the model {len(gone)}"
        remember(book, done[1], now, why, gone)

    said = world.both(lambda: world.act(revoking.revoke, selection, reason), theirs)
    return f"{said} {why} {[where for where, _ in gone]}"


def _selection(world: World, draw: Draw) -> revoking.Selection:
    kind, where = draw.random(), some_version(world, draw)
    assert where is not None
    if kind < 0.6:
        return revoking.Selection(versions=[(where[0], where[1] if draw.random() < 0.7 else 0)])
    if kind < 0.9:
        tokens = draw.sample(list(world.tokens), min(len(world.tokens), draw.choice([1, 2, 5])))
        return revoking.Selection(token_sha256s=[digest(token) for token in tokens], peppers=world.peppers())
    if kind < 0.95:
        return revoking.Selection(client_ids=[draw.choice(sorted(world.book.clients))])
    return revoking.Selection(created_after=world.now - draw.choice([1, HOUR]))


def _is_chosen(selection: revoking.Selection, why: str, card: Card, secret: Secret, now: int) -> bool:
    card.life.now = now
    live = card.life.lives(secret)
    if why == COMPROMISE:  # for good: whatever could come back, by going back to it or by reinstatement
        live = secret.why != COMPROMISE and now < min(secret.own, card.life.ends)
    if selection.created_after is not None:
        return live and secret.made >= selection.created_after
    if selection.client_ids:
        return live and card.client in selection.client_ids
    if selection.versions:
        ((key_id, number),) = selection.versions
        return card.key_id == key_id and (secret.number == number if number else live)
    return digest(card.tokens[secret.number]) in selection.token_sha256s


@step(5)
def undo(world: World, draw: Draw) -> str:
    """Reinstate what an entry of the audit log revoked."""
    if not world.book.revocations:
        return ""
    entry = draw.choice(world.book.revocations[-8:])
    said = world.both(lambda: world.act(reinstate, entry.audit_id),
                      lambda _: world.book.reinstate(entry, world.now))
    return f"{said} {entry}"
