"""Publications as messages, and what a comparison of two says."""

from verifier.admin.times import stamp
from verifier.admin.v1 import publication_pb2 as pb
from verifier.control.comparing import Difference
from verifier.errors import NotFound, UnsoundPublication
from verifier.keyring.description import KeyringDescription
from verifier.store.layout import Store
from verifier.store.manifest import Manifest
from verifier.store.signing import Trust


def publication_message(manifest: Manifest, *, current: bool) -> pb.Publication:
    """Write a publication."""
    return pb.Publication(
        revision=manifest.revision,
        content_of=manifest.content_of,
        held=manifest.held,
        published_at=stamp(manifest.published_at),
        records=manifest.records,
        active=manifest.active,
        tombstones=sum(file.count for file in manifest.tombstones),
        base=_keyring(manifest.base),
        delta=None if manifest.delta is None else _keyring(manifest.delta),
        publisher=manifest.publisher,
        current=current,
    )


def described(store: Store, trust: Trust, revision: int, *, current: bool) -> pb.Publication:
    """Write a publication of the store after its signature was checked; an unsound one with its problem."""
    try:
        return publication_message(store.publication(revision, trust), current=current)
    except UnsoundPublication as error:
        problem = f"{error.code}: {error.message}"
    except NotFound as error:
        problem = error.message
    return pb.Publication(revision=revision, current=current, problem=problem)


def difference_message(difference: Difference) -> pb.Difference:
    """Write the numbers of a comparison."""
    return pb.Difference(
        gained=difference.gained, lost=difference.lost, lost_used_24h=difference.lost_used_24h,
        widened=difference.widened, extended=difference.extended, denials_kept=difference.denials_kept,
    )


def _keyring(keyring: KeyringDescription) -> pb.KeyringSummary:
    return pb.KeyringSummary(sha256=keyring.sha256, records=keyring.records, bytes=keyring.bytes)
