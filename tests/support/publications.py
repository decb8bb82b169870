"""A store with publications made by hand: real files, real signatures, but keyrings from `tests.support.image`."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash

from tests.support.image import PEPPER, Facts, Image, image_of
from verifier._tag import checksum
from verifier.keyring.description import Block, KeyringDescription, Segments
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, digest_of
from verifier.store.secrets import Secrets

SEGMENT_BYTES = 4096


def native(number: int, prefix: str = "vk_live") -> str:
    """A well-formed token."""
    body = f"{prefix}_{number:027d}"
    return body + checksum(body.encode()).decode()


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


class Stocked:
    """A home with secrets and a store that can be published to, damaged and repaired."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        for part in (self.home.store / "keyrings", self.home.store / "publications", self.home.secrets / "peppers"):
            part.mkdir(parents=True)
        self.secrets = Secrets(self.home.secrets)
        self.secrets.create()
        (self.home.secrets / "peppers" / "p1").write_text(PEPPER.hex() + "\n")
        self.store = Store(self.home.store)
        self.revision = 0
        self.previous: str | None = None
        self.base: tuple[Image, KeyringDescription] | None = None
        self.published_at = 1_800_000_000

    def publish(self, facts: Mapping[str, Facts], delta: Mapping[str, Facts] | None = None, *,
                revision: int | None = None, current: bool = True, **changes: Any) -> Manifest:
        """Publish a base with one record for each token, and a delta on it; returns the manifest."""
        image = image_of(facts)
        base = self.add(image)
        description = None
        if delta is not None:
            description = replace(self.add(image_of(delta)), kind="delta", base=base.sha256)
        revision = self.revision + 1 if revision is None else revision
        records = base.records + (description.records if description else 0)
        manifest = Manifest(store_id="st_test", revision=revision, content_of=revision,
                            published_at=self.published_at, previous=self.previous, records=records,
                            active=records, base=base, delta=description, publisher="test")
        self.write(replace(manifest, **changes), current=current)
        return manifest

    def add(self, image: Image) -> KeyringDescription:
        """Put a keyring into the store; return its description."""
        data = image.data
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.store.keyring_path(sha256)
        if not path.exists():
            path.write_bytes(data)
        starts = range(0, len(data), SEGMENT_BYTES)
        pieces = tuple(xxhash.xxh3_64_hexdigest(data[at : at + SEGMENT_BYTES]) for at in starts)
        return KeyringDescription(
            sha256=sha256, bytes=len(data), format=1, kind="base", base=None, features=(),
            records=len(image.offsets), peppers=("p1",), prefixes=(("vk_live", "NATIVE"),), accepts_foreign=False,
            slots=Block(*image.slots), switches=Block(*image.switches), segments=Segments(SEGMENT_BYTES, pieces),
        )  # fmt: skip

    def write(self, manifest: Manifest, *, current: bool = True) -> None:
        """Sign and write a manifest, and make it the current one."""
        data = manifest.to_bytes()
        self.store.manifest_path(manifest.revision).write_bytes(data)
        self.store.signature_path(manifest.revision).write_bytes(self.secrets.signing_key().sign(data))
        if current:
            self.point(manifest.revision)
            self.revision, self.previous = manifest.revision, digest_of(data)

    def point(self, revision: int) -> None:
        """Move CURRENT."""
        new = self.home.store / ".CURRENT.new"
        new.write_text(f"{revision}\n")
        new.replace(self.store.pointer)
