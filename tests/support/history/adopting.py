"""What a registry holds after it was reconciled, as the model keeps it, and what must be true of that."""

from collections.abc import Iterable, Mapping

from tests.support.history.model import COMPROMISE, Book, Card, Published, Said
from tests.support.life_model import NEVER, Life, Secret
from verifier._tag import Tagger
from verifier.registry import queries
from verifier.registry.database import Registry
from verifier.registry.facts import Key, Version


def adopted(
    registry: Registry, old: Book, newest: Published, peppers: Mapping[str, bytes], tokens: Iterable[str]
) -> Book:
    """Read the registry into a book; windows and clocks are taken as they are, answers are checked.

    Args:
        registry: after it was reconciled.
        old: the book before it.
        newest: the publication that it learnt from.
        peppers: by id, in the order of their layers.
        tokens: all that ever were.
    """
    tagger = Tagger(list(peppers.values()))
    by_tag = {tagger.tag(token.encode()): token for token in tokens}
    book = Book(buried=old.buried | newest.buried, revocations=old.revocations, peppers=tuple(peppers),
                leaked=old.leaked, revision=newest.revision, reported_at=old.reported_at)
    with registry.read() as connection:
        book.clients = {client.client_id: client.enabled for client in queries.list_clients(connection)}
        for key in queries.list_keys(connection):
            book.cards[key.key_id] = _card(key, by_tag)
    return book


def _card(key: Key, by_tag: Mapping[bytes, str]) -> Card:
    life = Life(_or_never(key.expires_at), [_secret(version) for version in key.versions])
    secrets = {secret.number: secret for secret in life.secrets}
    for version in key.versions:
        secrets[version.number].gone_over_to = secrets[version.superseded_by] if version.superseded_by else None
    return Card(key.key_id, key.client_id, life, key.enabled, key.scopes, tuple(key.metadata.items()), key.rules,
                {version.number: by_tag[version.tag] for version in key.versions})


def _secret(version: Version) -> Secret:
    return Secret(
        version.number, version.issued_at, version.not_before or 0, _or_never(version.expires_at),
        _or_never(version.retire_at), version.clock or "", version.overlap_s or 0, version.ceiling,
        gone_at=version.superseded_at, used=version.first_used_at,
        why="" if version.reason is None else version.reason.name.lower(), when=version.revoked_at,
    )  # fmt: skip


def _or_never(moment: int | None) -> int:
    return NEVER if moment is None else moment


def check_adoption(old: Book, newest: Published, new: Book, pruned: set[str]) -> None:
    """I17: after it every token is answered as before, save denials added; no compromise is lost."""
    said, known = new.said(), old.places()
    for token, before in newest.said.items():
        if token in pruned and newest.hold is not None:
            continue
        assert token in said, f"I17: a published version was not taken in: {before}"
        after, there = said[token], known.get(token)
        mine = there[0].said(there[1]) if there and there[0].said(there[1]).where == before.where else None
        _check_denials(token, before, mine, after, new)
        if (mine is not None and mine.key_off) or before.key_off:
            assert after.key_off, f"I17: a key was switched on: {before}"
        assert after.where == before.where and after.begins == before.begins, f"I17: {before} became {after}"
        if newest.hold is None:
            assert _terms(after) == _terms(before), f"I17: {before} became {after}"
    off = newest.off | {client for client, on in old.clients.items() if not on}
    for client in off:
        assert not new.clients.get(client, False), f"I17: client {client} was switched on"
    for client in {before.client for before in newest.said.values()} - off:
        assert new.clients[client], f"I17: client {client} was switched off"
    for token in new.buried & said.keys():
        assert said[token].why == COMPROMISE, f"I1: {said[token]} is compromised"
    for before in newest.said.values():
        after = new.secret(before.where)
        if not before.gone_to and after is not None and not after.why:
            label = new.cards[before.where[0]].life.label
            assert label.number >= before.where[1], f"I17: {before} is no label any more"
    for card in new.cards.values():
        assert 1 == sum(secret.gone_over_to is None for secret in card.life.secrets), "I7: not one label"


def _check_denials(token: str, before: Said, mine: Said | None, after: Said, new: Book) -> None:
    whys = {before.why, mine.why if mine else ""} - {""}
    if token in new.buried or COMPROMISE in whys:
        assert after.why == COMPROMISE, f"I1: {after} is compromised"
    else:
        assert bool(after.why) == bool(whys) and after.why in whys | {""}, f"I17: {before} and {mine} became {after}"


def _terms(said: Said) -> tuple[object, ...]:
    return said.client, said.end, said.scopes, said.metadata, said.rules
