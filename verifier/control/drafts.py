"""What a publication is to be, and what came of it."""

from dataclasses import dataclass, field
from typing import Any

from verifier.control.building import Content, Rows
from verifier.control.compacting import Ready
from verifier.control.comparing import Difference
from verifier.registry import queries
from verifier.registry.intents import Base
from verifier.store.manifest import Manifest, TombstoneFile, time_text

DROP_SHARE = 0.2
DROP_RECORDS_MIN = 10


@dataclass(frozen=True, slots=True)
class DropGuard:
    """When a publication takes too many active keys away to be believed.

    Attributes:
        share: part of the active keys that may go without being asked, 0 to 1.
        records_min: fewer than this may always go.
        spares_denied: versions that somebody revoked or retired, or whose key or client he switched off, do not count:
            he gave his word then. Commands that change something say so, or a leaked key would stay valid because of
            what others denied before.
        spares_ended: nor do versions whose end has come. An emergency revocation says so, too: what is left to stop it
            is versions that the registry has lost, or holds for valid.
    """

    share: float = DROP_SHARE
    records_min: int = DROP_RECORDS_MIN
    spares_denied: bool = False
    spares_ended: bool = False

    def trips(self, lost: int, active: int) -> bool:
        """Tell whether losing so many of so many active keys needs a person's word."""
        return lost >= self.records_min and lost > self.share * active


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a publication did, or would do.

    Attributes:
        manifest: the current publication, new or not; with ``dry_run`` the one that would be.
        changed: whether it is new.
        difference: to the publication before.
        committed_at_ms: when it became current, in milliseconds since 1970; None unless it is new.
        audit_id: its entry in the audit log; None unless it is new.
    """

    manifest: Manifest
    changed: bool
    difference: Difference
    committed_at_ms: int | None = None
    audit_id: str | None = None

    @property
    def revision(self) -> int:
        """The current revision."""
        return self.manifest.revision

    def to_json(self) -> dict[str, Any]:
        """Return the object of ``publish --json``."""
        manifest, difference = self.manifest, self.difference
        delta = manifest.delta
        return {
            "revision": manifest.revision,
            "changed": self.changed,
            "content_of": manifest.content_of,
            "held": manifest.held,
            "published_at": time_text(manifest.published_at),
            "records": manifest.records,
            "active": manifest.active,
            "tombstones": sum(file.count for file in manifest.tombstones),
            "delta": {"records": delta.records, "bytes": delta.bytes} if delta else None,
            "difference": {
                "gained": difference.gained, "lost": difference.lost, "lost_used_24h": difference.lost_used_24h,
                "widened": difference.widened, "extended": difference.extended,
                "denials_kept": difference.denials_kept,
            },
            "nodes": {"expected": 0, "behind": []},
            "propagation_ms": None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a publication shall be made.

    Attributes:
        allow_drop: even if many active keys are lost, or if the publication before cannot be compared with.
        allow_clock_back: even if the clock is behind the publication before.
        guard: how many active keys may be lost without ``allow_drop``.
        dry_run: only tell what it would do.
        examples_max: how many changes to name.
        dormant: count as widened what is not active, too.
        resign: even if nothing changed, as the signing key is another one now.
    """

    allow_drop: bool = False
    allow_clock_back: bool = False
    guard: DropGuard = DropGuard()
    dry_run: bool = False
    examples_max: int = 0
    dormant: bool = False
    resign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A publication that is built, and not published yet.

    Attributes:
        state: of the registry when its records were read.
        content: its keyrings.
        tombstones: their files.
        base: a new base of the registry, if there is one.
        hold: the revision whose content it has; None unless it is held.
        held_since: the revision that began the hold; 0 is this one.
        drop_newer: held, and versions issued since are refused.
        action: for the audit log.
        denials_kept: by a rollback.
        ready: the base of the content, if it was built before the publisher took its lock.
        on_old: then, the records of a delta on the base before that would say the same.
    """

    state: queries.State
    content: Content
    tombstones: tuple[TombstoneFile, ...]
    base: Base | None = None
    hold: int | None = None
    held_since: int = 0
    drop_newer: bool = False
    action: str = "publication.publish"
    denials_kept: int = 0
    ready: Ready | None = None
    on_old: Rows = field(default_factory=dict)
