"""What the steps of a history share: how they are drawn, and what they choose from."""

import random
from collections.abc import Callable
from typing import Any

from tests.support.history.model import COMPROMISE, Book, Card, Revoked, Where
from tests.support.history.world import World
from tests.support.life_model import NEVER, Secret

MINUTE, HOUR, DAY = 60, 3600, 86_400
SPANS = [0, 1, 30, HOUR, 5 * HOUR, DAY]

Draw = random.Random
Step = Callable[[World, Draw], str]
STEPS: dict[str, tuple[float, Step]] = {}


def step(weight: float) -> Callable[[Step], Step]:
    """Register a step, and how often it comes."""

    def register(function: Step) -> Step:
        STEPS[function.__name__] = weight, function
        return function

    return register


# --- The clock -------------------------------------------------------------------------------------------------------


def let_time_pass(world: World, draw: Draw) -> None:
    """Move the clock on: a little, a lot, or to just where something happens."""
    kind = draw.random()
    if kind < 0.4:
        return
    if kind < 0.6 and world.book.cards:
        edges = [edge for said in world.book.said().values() for edge in said.moments() if edge > world.now]
        if edges:
            world.now = min(edges) if draw.random() < 0.7 else draw.choice(edges)
            return
    spans = [1, 1, 7, MINUTE, 20 * MINUTE, HOUR, 5 * HOUR]
    world.now += draw.choice(spans) if kind < 0.985 else draw.choice([2 * DAY, 8 * DAY, 31 * DAY, 95 * DAY])


# --- Doing it to both ------------------------------------------------------------------------------------------------


def change(world: World, key_id: str, ours: Callable[[], Any], rule: Callable[[Card], None]) -> str:
    """Do something to a key in both, and remember what was revoked by it."""
    book, now = world.book, world.now

    def theirs(done: Any) -> None:
        changed = book.change(key_id, now, rule)
        gone = [((key_id, one.number), book.cards[key_id].tokens[one.number]) for one in changed]
        why = COMPROMISE if any(one.why == COMPROMISE for one in changed) else "superseded"
        remember(book, done[1] if done else None, now, why, gone)

    return f"{key_id}: {world.both(ours, theirs)}"


def on_key(world: World, draw: Draw, ours: Callable[[str], Any], rule: Callable[[Card], None]) -> str:
    """Do something to some key in both, often to one whose rotation is open."""
    rotating = [card.key_id for card in world.book.cards.values() if _is_rotating(card, world.now)]
    key_id = draw.choice(rotating) if rotating and draw.random() < 0.5 else some_key(world, draw)
    return change(world, key_id, lambda: ours(key_id), rule) if key_id else ""


def remember(book: Book, audit_id: str | None, at: int, why: str, gone: list[tuple[Where, str]]) -> None:
    """Remember what an entry of the audit log revoked."""
    if audit_id is not None and gone:
        book.revocations.append(Revoked(audit_id, at, why, gone))


# --- Choosing --------------------------------------------------------------------------------------------------------


def some_key(world: World, draw: Draw) -> str:
    """Choose a key, newer ones and such as are not over more often."""
    keys = list(world.book.cards)
    if draw.random() < 0.7:
        keys = [key_id for key_id in keys if _lives(world.book.cards[key_id], world.now)] or keys
    return keys[-1 - int(len(keys) * draw.random() ** 2)] if keys else ""


def _is_rotating(card: Card, now: int) -> bool:
    card.life.now = now
    return card.life.waits(card.life.label) or bool(card.life.leaving())


def _lives(card: Card, now: int) -> bool:
    card.life.now = now
    return card.life.lives(card.life.label)


def some_version(world: World, draw: Draw) -> Where | None:
    """Choose a version."""
    key_id = some_key(world, draw)
    return (key_id, draw.choice(world.book.cards[key_id].life.secrets).number) if key_id else None


def some_token(world: World, draw: Draw) -> str:
    """Return a new token; rarely one that was there already."""
    old = list(world.tokens)
    return draw.choice(old) if old and draw.random() < 0.07 else world.token()


def some_revision(world: World, draw: Draw) -> int:
    """Choose a revision to go back to that is still in the store with what it needs; 0 if there is none."""
    there = set(world.store.revisions())
    good = [
        revision for revision, published in world.published.items()
        if {revision, published.hold or revision} <= there and all(
            world.store.keyring_path(keyring.sha256).is_file()
            for keyring in world.manifests[published.hold or revision].keyrings
        )
    ]  # fmt: skip
    return draw.choice(good[-12:]) if good else 0


def numbered(card: Card, number: int) -> Secret:
    """Return a version of a key."""
    return next(secret for secret in card.life.secrets if secret.number == number)


def end_of(moment: int | None) -> int:
    """Return an end as the model has it."""
    return NEVER if moment is None else moment
