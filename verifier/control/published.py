"""What a publication says of each version, read back from its files."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from verifier._build import Rows
from verifier._tagset import relayered
from verifier.control.progress import Progress, silent
from verifier.errors import NotFound, UnsoundPublication
from verifier.keyring.digest import digest_file
from verifier.keyring.reader import KeyringFile
from verifier.keyring.records import ABSENT, HEAD_BYTES
from verifier.store.layout import Store
from verifier.store.manifest import Manifest

Row = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Published:
    """The open files of a publication, whose digests were checked.

    Attributes:
        manifest: what was signed.
        base: the base keyring.
        delta: the delta, or None.
    """

    manifest: Manifest
    base: KeyringFile
    delta: KeyringFile | None

    def rows(self, layers: Sequence[bytes] = ()) -> Iterator[Row]:
        """Yield (tag, record) of every version that is served, a delta's in place of the base's.

        Args:
            layers: peppers that were added since; the tags are given under them.
        """
        changed = dict(_rows_of(self.delta)) if self.delta is not None else {}
        for tag, record in _rows_of(self.base):
            if tag not in changed:
                yield _relaid(tag, record, layers) if layers else (tag, record)
        for tag, record in changed.items():
            if not record[16] & ABSENT:
                yield _relaid(tag, record, layers) if layers else (tag, record)

    def clients_off(self) -> bytes:
        """Return the client switches, one bit for each ordinal."""
        return (self.delta or self.base).switch_bytes()

    @property
    def client_count(self) -> int:
        """One more than the greatest ordinal of a client."""
        return (self.delta or self.base).switch_count


@contextmanager
def opened(store: Store, manifest: Manifest, progress: Progress = silent) -> Iterator[Published]:
    """Open the keyrings of a publication, after a look at every byte of them.

    Raises:
        NotFound: one is missing.
        UnsoundPublication: BAD_DIGEST, or FORMAT.
    """
    with ExitStack() as stack:
        files = []
        for keyring in manifest.keyrings:
            try:
                file = stack.enter_context(KeyringFile(store.keyring_path(keyring.sha256)))
            except NotFound:
                raise NotFound(f"keyring {keyring.sha256} is not in the store") from None
            found, _ = digest_file(file.fd, file.size, partial(_tell, progress, file.size))
            if found != keyring.sha256:
                raise UnsoundPublication(f"keyring {keyring.sha256} has other bytes", code="BAD_DIGEST")
            files.append(file)
        yield Published(manifest, files[0], files[1] if len(files) > 1 else None)


def _tell(progress: Progress, size: int, done: int) -> None:
    progress("digest", done, size)


def _rows_of(file: KeyringFile) -> Iterator[Row]:
    for chunk in Rows(file.fd, file.pages):
        yield from chunk


def _relaid(tag: bytes, record: bytes, layers: Sequence[bytes]) -> Row:
    moved = relayered(tag, layers)
    return moved, moved[HEAD_BYTES:] + record[HEAD_BYTES:]
