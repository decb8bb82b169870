"""From a revision in a store to a view in memory that every check has passed.

The order is that of trust: the signature before the manifest is parsed, the manifest before a keyring is opened, the
digest over the very bytes that will be served, and only then every slot and record of them. Nothing is served, and
nothing that was served before is touched, until all of it has passed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from verifier._map import Map
from verifier._view import View
from verifier.errors import UnsoundPublication
from verifier.keyring.description import Block, KeyringDescription
from verifier.serving import memory, resurrection
from verifier.serving.highest import HighestServed, Mark
from verifier.serving.resurrection import Buried
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, digest_of
from verifier.store.secrets import Secrets
from verifier.store.signing import Trust

Memory = Literal["sealed", "mapped"]

TOMBSTONE_BYTES = 64  # about so many in a file


@dataclass(frozen=True)
class LoadLimits:
    """What a node is willing to load, and how it serves it.

    Attributes:
        records_max: records of base and delta together.
        bytes_max: bytes of base and delta together.
        reserve_bytes: memory that must stay free after the load.
        memory: ``sealed`` memory, or the files ``mapped`` as they lie on disk.
        max_staleness_ms: age of the last confirmation from which on answers fail; 0 = no limit.
    """

    records_max: int = 100_000_000
    bytes_max: int = 64 << 30
    reserve_bytes: int = 64 << 20
    memory: Memory = "sealed"
    max_staleness_ms: int = 0


@dataclass(frozen=True)
class Publication:
    """A publication in memory, ready to be served.

    Attributes:
        manifest: what was signed.
        mark: its identity.
        view: what answers.
        buried: its tombstones, none of which is alive in it.
        checked: records that were checked by this load (those of a reused base are not checked again).
        load_s: seconds that the load took.
    """

    manifest: Manifest
    mark: Mark
    view: View
    buried: Buried
    checked: int
    load_s: float


def authenticate(store: Store, revision: int, trust: Trust) -> tuple[Manifest, Mark]:
    """Verify the signature of a manifest, then read it.

    Raises:
        UnsoundPublication: BAD_SIGNATURE, or FORMAT, FEATURE or LIMIT for what was signed.
        NotFound: the manifest or its signature is missing.
    """
    signed = store.manifest_bytes(revision)
    trust.verify(signed, store.signature(revision))
    manifest = Manifest.from_bytes(signed)
    if manifest.revision != revision:
        raise UnsoundPublication(f"the manifest in the place of revision {revision} is that of {manifest.revision}")
    return manifest, Mark(manifest.store_id, revision, digest_of(signed))


def check_limits(manifest: Manifest, limits: LoadLimits) -> None:
    """Refuse what this node may not load.

    Raises:
        UnsoundPublication: LIMIT, or FORMAT when base and delta do not belong together.
    """
    delta = manifest.delta
    if delta is not None and delta.peppers != manifest.base.peppers:
        raise UnsoundPublication("base and delta were built with different peppers")
    _limit("records", sum(keyring.records for keyring in manifest.keyrings), limits.records_max)
    _limit("tombstones", sum(file.count for file in manifest.tombstones), limits.records_max)
    _limit("bytes", sum(keyring.bytes for keyring in manifest.keyrings), limits.bytes_max)


def load_publication(
    store: Store,
    revision: int,
    secrets: Secrets,
    *,
    limits: LoadLimits | None = None,
    highest: HighestServed | None = None,
    reuse: Publication | None = None,
) -> Publication:
    """Load one publication completely, or raise.

    Args:
        store: where it lies.
        revision: which one.
        secrets: peppers and trusted keys.
        limits: what may be loaded; the defaults when None.
        highest: what was served before; None asks nothing of the revision, and of the tombstones only what they are.
        reuse: a publication in memory; if it has the same base keyring, that is not loaded and checked again.

    Raises:
        UnsoundPublication: it must not be served; ``code`` says why.
        OSError: a file could not be read, or there was no memory: worth another try.
    """
    started = time.monotonic()
    limits = limits or LoadLimits()
    manifest, mark = authenticate(store, revision, secrets.trust())
    if highest is not None:
        highest.admit(mark)
    check_limits(manifest, limits)
    held = secrets.peppers()
    peppers = _peppers(manifest.base, held)
    kept = reuse.view.base if reuse is not None and reuse.manifest.base.sha256 == manifest.base.sha256 else None
    delta = manifest.delta
    _check_memory(limits, ([] if kept is not None else [manifest.base]) + ([delta] if delta else []))
    base_map = kept if kept is not None else _open(store, manifest.base, limits)
    delta_map = _open(store, delta, limits) if delta is not None else None
    newest = delta or manifest.base
    view = View(
        base_map,
        _place(manifest.base.slots),
        _place(newest.switches),
        peppers,
        newest.prefixes,
        newest.accepts_foreign,
        manifest.revision,
        delta_map,
        _place(delta.slots) if delta else None,
        limits.max_staleness_ms,
    )
    checked = view.check(base=kept is None)
    known = [] if reuse is None else [reuse.buried]
    if highest is not None and highest.buried is not None:
        known.append(highest.buried)
    buried = resurrection.check(view, manifest, store, held, known)
    return Publication(manifest, mark, view, buried, checked, time.monotonic() - started)


def load(
    store: Store,
    revision: int,
    secrets: Secrets,
    limits: LoadLimits | None = None,
) -> View:
    """Load one publication and return what answers; arguments and errors as for :func:`load_publication`."""
    return load_publication(store, revision, secrets, limits=limits).view


def bytes_to_load(manifest: Manifest, reuse: Publication | None) -> int:
    """Return about how many bytes a load of this manifest would read."""
    reused = reuse is not None and reuse.manifest.base.sha256 == manifest.base.sha256
    known = () if reuse is None else reuse.manifest.tombstones
    buried = sum(file.count * TOMBSTONE_BYTES for file in manifest.tombstones if file not in known)
    return (0 if reused else manifest.base.bytes) + (manifest.delta.bytes if manifest.delta else 0) + buried


def _limit(what: str, value: int, maximum: int) -> None:
    if value > maximum:
        raise UnsoundPublication(f"{value} {what} are more than this node's limit of {maximum}", code="LIMIT")


def _peppers(base: KeyringDescription, held: Mapping[str, bytes]) -> list[bytes]:
    missing = [name for name in base.peppers if name not in held]
    if missing:
        raise UnsoundPublication(
            f"needs peppers that this node does not hold: {', '.join(missing)}",
            code="PEPPER_MISSING",
            hint="copy secrets/peppers from the publisher",
        )
    return [held[name] for name in base.peppers]


def _check_memory(limits: LoadLimits, keyrings: list[KeyringDescription]) -> None:
    if limits.memory != "sealed":
        return
    needed = sum(keyring.bytes for keyring in keyrings)
    room = memory.available_bytes()
    if room is not None and needed and needed + limits.reserve_bytes > room:
        raise UnsoundPublication(
            f"needs {needed >> 20} MiB of memory, {room >> 20} MiB are available and "
            f"{limits.reserve_bytes >> 20} MiB must stay free",
            code="LIMIT",
            hint="give the node more memory, or serve with --memory mapped",
        )


def _open(store: Store, keyring: KeyringDescription, limits: LoadLimits) -> Map:
    path = store.keyring_path(keyring.sha256)
    opened = Map.sealed if limits.memory == "sealed" else Map.mapped
    try:
        keyring_map = opened(path, keyring.bytes)
    except FileNotFoundError as error:
        raise UnsoundPublication(f"keyring {keyring.sha256} is missing", code="BAD_DIGEST") from error
    if keyring_map.sha256() != keyring.sha256:
        raise UnsoundPublication(f"the bytes of keyring {keyring.sha256} have another digest", code="BAD_DIGEST")
    return keyring_map


def _place(block: Block) -> tuple[int, int]:
    """Return where a block lies in the file: offset and bytes."""
    return block.offset, block.bytes
