"""What every token is to be answered, by every publication, at any second: a second opinion on the whole store.

Plain data, and no code of the product: written from the decision table of Verify, and from the rules of publications,
holds, denials and tombstones. The life of a single key is :mod:`tests.support.life_model`'s.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tests.support.life_model import NEVER, Life, No, Secret

COMPROMISE = "key_compromise"
REINSTATE_WITHIN_S = 30 * 86_400
REPORTED_WITHIN_S = 600

Where = tuple[str, int]  # key id and number of a version


@dataclass(frozen=True, slots=True)
class Said:
    """What a publication says of one token. NEVER stands for no end, 0 for no beginning and no successor."""

    where: Where
    client: str
    why: str = ""  # it is revoked
    key_off: bool = False
    begins: int = 0
    end: int = NEVER
    own: int = NEVER  # ends of the version's and the key's own lives
    key: int = NEVER
    gone_at: int = NEVER
    gone_to: int = 0
    scopes: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    rules: tuple[str, ...] = ()

    def moments(self) -> set[int]:
        """The seconds around which the answer changes."""
        edges = {self.begins, self.end, self.gone_at} - {0, NEVER}
        return {edge + by for edge in edges for by in (-1, 0)}


class Expected(NamedTuple):
    """An answer: verdict and phase."""

    verdict: str
    phase: str


UNKNOWN = Expected("UNKNOWN", "UNSPECIFIED")


def judge(
    said: Said | None, client_on: bool, at: int, scopes: Iterable[str] = (), address: str | None = None
) -> Expected:
    """The decision table; the first line that matches."""
    if said is None:
        return UNKNOWN
    phase = (
        "REVOKED" if said.why else "EXPIRED" if at >= said.end else "PENDING" if at < said.begins
        else "RETIRING" if at >= said.gone_at else "CURRENT"
    )  # fmt: skip
    lines = [
        ("REVOKED", bool(said.why)),
        ("CLIENT_DISABLED", not client_on),
        ("KEY_DISABLED", said.key_off),
        ("NOT_YET_ACTIVE", at < said.begins),
        ("EXPIRED", at >= said.end),
        ("ADDRESS_NOT_ALLOWED", bool(said.rules) and not _within(address, said.rules)),
        ("INSUFFICIENT_SCOPE", not set(scopes) <= set(said.scopes)),
    ]
    return Expected(next((verdict for verdict, matches in lines if matches), "VALID"), phase)


def _within(address: str | None, rules: Iterable[str]) -> bool:
    return address is not None and any(ipaddress.ip_address(address) in ipaddress.ip_network(rule) for rule in rules)


@dataclass(frozen=True)
class Published:
    """A publication."""

    revision: int
    said: Mapping[str, Said]  # by token
    off: frozenset[str]  # clients
    buried: frozenset[str]  # tokens that are known to be compromised
    peppers: tuple[str, ...]
    hold: int | None = None  # whose content it has
    drop_newer: bool = False

    def answer(self, token: str, at: int, scopes: Iterable[str] = (), address: str | None = None) -> Expected:
        """Answer as a node that serves it does."""
        said = self.said.get(token)
        return judge(said, said is None or said.client not in self.off, at, scopes, address)


@dataclass
class Card:
    """A key."""

    key_id: str
    client: str
    life: Life
    enabled: bool = True
    scopes: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    rules: tuple[str, ...] = ()
    tokens: dict[int, str] = field(default_factory=dict)  # by number

    def said(self, secret: Secret) -> Said:
        """What is to be said of a version, were it published now."""
        return Said(
            (self.key_id, secret.number), self.client, secret.why, not self.enabled, secret.begins,
            self.life.end(secret), secret.own, self.life.ends, NEVER if secret.gone_at is None else secret.gone_at,
            secret.gone_over_to.number if secret.gone_over_to else 0, self.scopes, self.metadata, self.rules,
        )  # fmt: skip


@dataclass
class Revoked:
    """What an entry of the audit log revoked."""

    audit_id: str
    at: int
    why: str
    whom: list[tuple[Where, str]]  # with their tokens


@dataclass
class Book:
    """The registry: what a backup holds, too."""

    clients: dict[str, bool] = field(default_factory=dict)  # whether they are on
    cards: dict[str, Card] = field(default_factory=dict)
    buried: set[str] = field(default_factory=set)
    revocations: list[Revoked] = field(default_factory=list)
    peppers: tuple[str, ...] = ("p1",)
    leaked: frozenset[str] = frozenset()
    revision: int = 0
    hold: int | None = None
    drop_newer: bool = False
    reported_at: int = -NEVER
    doubtful: int | None = None  # from which revocation on the log is that of a branch

    def copy(self) -> "Book":
        """A backup."""
        return deepcopy(self)

    def places(self) -> dict[str, tuple[Card, Secret]]:
        """All versions, by token."""
        return {
            card.tokens[secret.number]: (card, secret) for card in self.cards.values() for secret in card.life.secrets
        }

    def secret(self, where: Where) -> Secret | None:
        """A version that may be gone."""
        card = self.cards.get(where[0])
        found = [one for one in card.life.secrets if one.number == where[1]] if card else []
        return found[0] if found else None

    def token(self, where: Where) -> str:
        """The token of a version."""
        return self.cards[where[0]].tokens[where[1]]

    # --- Keys --------------------------------------------------------------------------------------------------------

    def check_unused(self, token: str) -> None:
        """Refuse a token that somebody brings along."""
        if token in self.buried:
            raise No("TOMBSTONED")
        if token in self.places():
            raise No("DUPLICATE")

    def change(self, key_id: str, now: int, rule) -> list[Secret]:
        """Do something to a key, or nothing at all; return the versions that were revoked by it, or more strongly."""
        card = self.cards[key_id]
        before = deepcopy(card)
        whys = {secret.number: secret.why for secret in card.life.secrets}
        card.life.now = now
        try:
            rule(card)
        except No:
            self.cards[key_id] = before
            raise
        changed = [one for one in card.life.secrets if one.why != whys.get(one.number, "")]
        self.buried |= {card.tokens[one.number] for one in changed if one.why == COMPROMISE}
        return changed

    def check_reports(self, now: int) -> None:
        """Refuse to wait for a first use that nobody would tell of."""
        if self.reported_at < now - REPORTED_WITHIN_S:
            raise No("NO_REPORTS")

    def update_ends(self, card: Card, own: int | None, ends: int | None, *, extend: bool) -> None:
        """Move the label's own end, or the key's."""
        if ends is not None:
            if ends > card.life.ends and not extend:
                raise No("WOULD_EXTEND")
            card.life.ends = ends
        if own is None:
            return
        label = card.life.label
        if label.why:
            raise No("REVOKED")
        if own > label.own and not extend:
            raise No("WOULD_EXTEND")
        if card.life.waits(label) and own <= label.begins:
            raise No("EMPTY_WINDOW")
        label.own = own

    def reinstate(self, entry: Revoked, now: int) -> None:
        """Undo a revocation."""
        if now - entry.at > REINSTATE_WITHIN_S:
            raise No("TOO_OLD")
        if entry.why == COMPROMISE:
            raise No("COMPROMISED")
        for where, token in entry.whom:
            card, secret = self.cards.get(where[0]), self.secret(where)
            if card is not None and secret is not None and card.tokens[secret.number] == token:
                card.life.now = now
                card.life.reinstate(secret, entry.at)

    # --- Publications ------------------------------------------------------------------------------------------------

    def said(self) -> dict[str, Said]:
        """What is to be said of every token, were it published now."""
        return {token: card.said(secret) for token, (card, secret) in self.places().items()}

    def published(
        self, revision: int, newest: Published | None, held: Published | None, *, drop_newer: bool = False
    ) -> Published:
        """The publication of now, or while the store is held at another."""
        buried = frozenset(self.buried | (newest.buried if newest else frozenset()))
        said = self.said()
        for token in buried & said.keys():
            assert said[token].why == COMPROMISE, "the model itself revives a compromised version"
        if held is not None:
            said = view(held.said, said, drop_newer=drop_newer)
        off = frozenset(client for client, on in self.clients.items() if not on)
        return Published(revision, said, off, buried, self.peppers, held.revision if held else None, drop_newer)

    def note(self, done: Published) -> None:
        """Take note of a publication."""
        self.revision, self.hold, self.drop_newer = done.revision, done.hold, done.drop_newer
        self.buried |= done.buried


def view(then: Mapping[str, Said], now: Mapping[str, Said], *, drop_newer: bool) -> dict[str, Said]:
    """What a held store says: the content of then, with the denials of now."""
    found = {}
    for token, present in now.items():
        if token in then:
            past = then[token]
            found[token] = replace(
                past, why=present.why, key_off=present.key_off, own=min(past.own, present.own),
                key=min(past.key, present.key), end=min(past.end, present.own, present.key),
            )  # fmt: skip
        elif drop_newer:
            found[token] = replace(present, why=present.why or "unspecified")
        else:
            found[token] = present
    return found
