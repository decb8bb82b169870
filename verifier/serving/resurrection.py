"""No publication brings a compromised version back to life, whatever its signature: tombstones are looked up in it.

A node keeps the tombstones of the last publication that it accepted. The next one must name them all, and every record
with a tag of the set must be REVOKED. So neither a registry restored from a backup nor whoever got hold of the signing
key can undo a revocation for compromise.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verifier._tagset import find_unrevoked, first_missing, ordered, relayered
from verifier._view import View
from verifier.errors import Unavailable, UnsoundPublication
from verifier.store import durable
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, TombstoneFile
from verifier.store.tombstones import read_tags

FOLDER = "tombstones"
INDEX = "tombstones.json"
_TAG_BYTES = 32


@dataclass(frozen=True, slots=True)
class TagSet:
    """The tags of one file of tombstones.

    Attributes:
        file: what the manifest said of it.
        tags: ascending, 32 bytes each.
    """

    file: TombstoneFile
    tags: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Buried:
    """The tombstones of a publication that passed its checks.

    Attributes:
        store_id: the store that it came from.
        peppers: ids of the peppers that its tags were made with, in the order of their layers.
        sets: their union is the set.
        base_sha256: the publication's base keyring.
        clean: digests of those sets of which nothing is alive in the base alone: as long as it is served, only
            records of a delta can bring such a tag back.
    """

    store_id: str
    peppers: tuple[str, ...]
    sets: tuple[TagSet, ...] = ()
    base_sha256: str = ""
    clean: frozenset[str] = frozenset()

    @property
    def files(self) -> tuple[TombstoneFile, ...]:
        """The files that hold the set."""
        return tuple(each.file for each in self.sets)

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells one set from another."""
        return self.store_id, self.peppers, self.files

    def tags_of(self, file: TombstoneFile) -> bytes | None:
        """Return the tags of a file, if they are here."""
        return next((each.tags for each in self.sets if each.file == file), None)


def check(
    view: View, manifest: Manifest, store: Store, peppers: Mapping[str, bytes], known: Sequence[Buried]
) -> Buried:
    """Refuse a publication in which a compromised version is alive, or whose tombstones are fewer than before.

    Args:
        view: the publication; its slots and records were checked.
        manifest: the same as it was signed.
        store: where its tombstones lie.
        peppers: all that are held, by id.
        known: what was accepted before: all of it must be in the set again. Files and checks that did not change
            since are not read and made again.

    Raises:
        UnsoundPublication: RESURRECTION, or BAD_DIGEST or FORMAT for a file of tombstones.
    """
    known = [before for before in known if before.store_id == manifest.store_id]
    sets = tuple(TagSet(file, _tags(file, store, known)) for file in manifest.tombstones)
    for before in known:
        _check_complete(sets, before, manifest, peppers)
    clean = frozenset(each.file.sha256 for each in sets if _check_dead(each, view, manifest, known))
    return Buried(manifest.store_id, manifest.base.peppers, sets, manifest.base.sha256, clean)


def _tags(file: TombstoneFile, store: Store, known: Sequence[Buried]) -> bytes:
    there = (before.tags_of(file) for before in known)
    found = next((tags for tags in there if tags is not None), None)
    return read_tags(store.tombstone_path(file.sha256), file) if found is None else found


def _check_complete(
    sets: tuple[TagSet, ...], before: Buried, manifest: Manifest, peppers: Mapping[str, bytes]
) -> None:
    """Check that the set holds all that was accepted before."""
    layers = _layers_since(before, manifest.base.peppers, peppers)
    for each in before.sets:
        if not layers and each in sets:
            continue
        tags = ordered(relayered(each.tags, layers)) if layers else each.tags
        if first_missing(tags, [after.tags for after in sets]) >= 0:
            raise UnsoundPublication(
                "a version that was known to be compromised has no tombstone any more",
                code="RESURRECTION",
                hint="was the registry restored from a backup? verifier registry reconcile",
            )


def _layers_since(before: Buried, now: tuple[str, ...], peppers: Mapping[str, bytes]) -> list[bytes]:
    """Return the peppers that were laid over the former ones; under others a compromised token would look new."""
    former = before.peppers
    if before.sets and now[: len(former)] != former:
        raise UnsoundPublication(
            f"its peppers are {', '.join(now)}, so compromised versions of before, under {', '.join(former)}, "
            "cannot be told",
            code="RESURRECTION",
            hint="peppers are only ever added; for a new beginning, start with another --state folder",
        )
    return [peppers[name] for name in now[len(former) :]]


def _check_dead(each: TagSet, view: View, manifest: Manifest, known: Sequence[Buried]) -> bool:
    """Check that nothing of a set is alive; return whether the base alone would have passed."""
    clean = any(
        before.base_sha256 == manifest.base.sha256 and each.file.sha256 in before.clean for before in known
    ) or find_unrevoked(view, each.tags, "base") < 0
    alive = find_unrevoked(view, each.tags, "delta" if clean else "view")
    if alive >= 0:
        raise UnsoundPublication(
            f"compromised versions are alive in it: tombstone {alive + 1} of {each.file.sha256}, for one",
            code="RESURRECTION",
        )
    return clean


# --- In the state folder ---------------------------------------------------------------------------------------------


def read_state(folder: Path) -> Buried | None:
    """Return the tombstones that were kept in a state folder, or None.

    Raises:
        Unavailable: they cannot be read any more.
    """
    try:
        fields: dict[str, Any] = json.loads((folder / INDEX).read_text())
        files = [TombstoneFile(str(file["sha256"]), int(file["count"])) for file in fields["files"]]
        sets = tuple(TagSet(file, read_tags(_kept(folder, file), file)) for file in files)
        return Buried(str(fields["store_id"]), tuple(map(str, fields["peppers"])), sets)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, UnsoundPublication) as error:
        raise Unavailable(
            f"{folder / INDEX} does not hold what a node writes there, or a file in {folder / FOLDER} is damaged",
            hint="remove both only if you are sure that the store is the right one",
        ) from error


def write_state(folder: Path, buried: Buried, store: Store) -> None:
    """Keep tombstones in a state folder: whole files, as they are in the store.

    Raises:
        Unavailable, OSError: they could not be made durable.
    """
    place = folder / FOLDER
    durable.make_folder(place, mode=0o700)
    for file in buried.files:
        if not _kept(folder, file).exists():
            durable.write_once(_kept(folder, file), store.tombstone_path(file.sha256).read_bytes(), mode=0o600)
    fields = {
        "store_id": buried.store_id, "peppers": buried.peppers,
        "files": [{"sha256": file.sha256, "count": file.count} for file in buried.files],
    }  # fmt: skip
    durable.replace(folder / INDEX, json.dumps(fields, sort_keys=True).encode() + b"\n", mode=0o600)
    named = {file.sha256 for file in buried.files}
    for path in place.iterdir():
        if path.name not in named:
            path.unlink(missing_ok=True)


def _kept(folder: Path, file: TombstoneFile) -> Path:
    return folder / FOLDER / file.sha256
