"""Steps of publishers, operators and nodes."""

from tests.support.history.drawing import DAY, Draw, some_revision, step
from tests.support.history.forging import forge
from tests.support.history.model import COMPROMISE
from tests.support.history.world import World
from verifier.control import pruning, rekeying
from verifier.errors import Conflict
from verifier.registry import queries

LINES = 640  # of a publication, about
PEPPERS_MAX = 4


def look(world: World, draw: Draw) -> None:
    """Let the first node follow at once, others sometimes."""
    for number, node in enumerate(world.nodes):
        if not number or draw.random() < 0.4:
            world.take(node)


# --- Publications ----------------------------------------------------------------------------------------------------


@step(30)
def publish(world: World, draw: Draw) -> str:
    """Publish what there is, or go on with what is held."""
    done = world.publish(0)
    look(world, draw)
    return done


@step(2)
def rebase(world: World, draw: Draw) -> str:
    done = world.publish(0, rebase=True)
    look(world, draw)
    return done


@step(4)
def resume(world: World, draw: Draw) -> str:
    done = world.publish(None)
    look(world, draw)
    return done


@step(4)
def roll_back(world: World, draw: Draw) -> str:
    chosen = some_revision(world, draw)
    if not chosen:
        return ""
    done = world.publish(chosen, drop_newer=draw.random() < 0.3)
    look(world, draw)
    return f"to {chosen}: {done}"


@step(2.5)
def crash(world: World, draw: Draw) -> str:
    """Kill a publisher at some line, at its end more often than not; sometimes its successor, too."""
    told = []
    for _ in range(draw.choice([1, 1, 2])):
        held = draw.choice([0, 0, 0, None, some_revision(world, draw)])
        kind = "resume" if held is None else "rollback" if held else "publish"
        most = world.lines.get(kind, LINES)
        line = most + 15 - draw.randrange(75) if draw.random() < 0.7 else draw.randrange(most)
        before = world.store.current()
        told.append(f"{held} at line {line}: {world.publish(held, line=max(1, line))}")
        if world.last_lines and before != world.store.current():
            world.lines[kind] = world.last_lines
        look(world, draw)
    return "; ".join(told)


# --- Operators -------------------------------------------------------------------------------------------------------


@step(2)
def back_up(world: World, draw: Draw) -> str:
    world.back_up()
    return f"at r{world.book.revision}"


@step(1.2)
def restore(world: World, draw: Draw) -> str:
    return f"{world.restore()}, now at r{world.book.revision}, behind: {world.is_behind}"


@step(9)
def reconcile(world: World, draw: Draw) -> str:
    return world.reconcile()


@step(1)
def prune(world: World, draw: Draw) -> str:
    pruned = pruning.prune(world.home, draw.choice([1, 3, 10]), 0, registry=world.registry, now_s=world.now)
    return f"{pruned.revisions}"


@step(1)
def prune_versions(world: World, draw: Draw) -> str:
    """Let what ended long ago go; the model only looks that nothing else went."""
    before = world.book.places()
    try:
        world.act(pruning.prune_versions, 90 * DAY)
    except Conflict as refused:
        return str(refused.code)
    gone = []
    with world.registry.read() as connection:
        left = {(key.key_id, version.number) for key in queries.list_keys(connection) for version in key.versions}
    for token, (card, secret) in before.items():
        if (card.key_id, secret.number) in left:
            continue
        card.life.now = world.now - 90 * DAY
        assert not card.life.lives(secret) and secret.why != COMPROMISE, f"4.4: {card.said(secret)} went too early"
        assert not secret.why or card.life.end(secret) <= card.life.now or (secret.when or 0) <= card.life.now
        gone.append((card.key_id, secret.number))
        card.life.secrets.remove(secret)
        world.pruned.add(token)
        if not card.life.secrets:
            del world.book.cards[card.key_id]
    return f"{gone}"


@step(0.4)
def pepper(world: World, draw: Draw) -> str:
    """Lay a further pepper over all tags."""
    book = world.book
    if world.is_behind or len(book.peppers) >= PEPPERS_MAX:
        return ""
    name = world.name("pepper")
    world.secrets.add_pepper(name)
    return world.both(
        lambda: world.act(rekeying.add_pepper, name, world.secrets.peppers()),
        lambda _: setattr(book, "peppers", (*book.peppers, name)),
    )


@step(0.2)
def leak(world: World, draw: Draw) -> str:
    """Note that a pepper has leaked."""
    name = draw.choice(world.book.peppers)
    return world.both(lambda: world.act(rekeying.mark_pepper_leaked, name),
                      lambda _: setattr(world.book, "leaked", world.book.leaked | {name}))


# --- Nodes -----------------------------------------------------------------------------------------------------------


@step(3)
def restart(world: World, draw: Draw) -> str:
    """Restart a node; what it served last it serves again, or what is newer."""
    node = draw.choice(world.nodes)
    node.restart()
    world.take(node)
    return f"r{node.revision}"


@step(3)
def ask(world: World, draw: Draw) -> str:
    """Ask a node that may be behind."""
    node = draw.choice(world.nodes)
    world.compare(node)
    return f"r{node.revision}"


@step(1.5)
def attack(world: World, draw: Draw) -> str:
    """Sign an old content anew, as somebody with the signing key could, or bring an old publication back."""
    old = some_revision(world, draw)
    if not old:
        return ""
    return forge(world, old, draw)
