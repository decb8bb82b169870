"""What somebody with the signing key could sign, and what nodes make of it."""

import random
from dataclasses import replace

from tests.support.history.world import World


def forge(world: World, old: int, draw: random.Random) -> str:
    """Sign the content of an old revision as the newest; every node that knows better must refuse it.

    Args:
        old: the revision.
        draw: chooses whether its tombstones are those of then or of now.
    """
    newest = world.newest
    assert newest is not None
    told = [node.refusal(old) for node in world.nodes if node.revision > old]
    assert set(told) <= {"LOWER_REVISION"}, f"a node would go back: {told}"
    current = world.manifests[newest.revision]
    manifest = replace(world.manifests[old], revision=newest.revision + 1, previous=None, held=False,
                       content_of=newest.revision + 1)  # fmt: skip
    honest = draw.random() < 0.5 and manifest.base.peppers == current.base.peppers
    if honest:
        manifest = replace(manifest, tombstones=current.tombstones)
    alive = {token for token, said in world.published[old].said.items() if not said.why}
    data = manifest.to_bytes()
    paths = world.store.manifest_path(manifest.revision), world.store.signature_path(manifest.revision)
    if any(path.exists() for path in paths):  # of a publisher that was killed
        return "occupied"
    paths[0].write_bytes(data)
    paths[1].write_bytes(world.secrets.signing_key().sign(data))
    try:
        for node in world.nodes:
            known = world.published[node.revision].buried if node.revision else frozenset()
            wrong = alive & (newest.buried if honest else known) or (known - world.published[old].buried and not honest)
            code = node.refusal(manifest.revision)
            told.append(code)
            assert not wrong or code in ("RESURRECTION", "BAD_DIGEST"), f"I26: {node.folder.name} takes r{old} again"
    finally:
        for path in paths:
            path.unlink()
    return f"r{old} again: {told}"
