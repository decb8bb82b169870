"""What a publication serves, read from its files record by record."""

from verifier.control import comparing
from verifier.control.building import bits_of
from verifier.control.comparing import Keyrings
from verifier.keyring.reader import KeyringFile
from verifier.keyring.records import decode_record
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest
from verifier.store.secrets import Secrets


def manifest_of(home: Home, revision: int | None = None) -> Manifest:
    """Return the manifest of a revision, of the current one when None."""
    store = Store(home.store)
    return store.publication(revision or store.current() or 0, Secrets(home.secrets).trust())


def keyrings_of(home: Home, manifest: Manifest) -> Keyrings:
    """Say where its keyrings lie."""
    paths = [Store(home.store).keyring_path(keyring.sha256) for keyring in manifest.keyrings]
    return Keyrings(paths[0], paths[1] if len(paths) > 1 else None)


def contents(keyrings: Keyrings):
    """Return records by tag head as a node finds them, the clients that are off, prefixes, and foreign tokens."""
    records = {head: record for head, _, record in comparing.differing(None, keyrings)}
    with KeyringFile(keyrings.delta or keyrings.base) as file:
        off = set(bits_of(file.switch_bytes()))
        return records, off, file.header["prefixes"], file.header["accepts_foreign"]


def served(home: Home, revision: int | None = None):
    """Return the contents of a publication."""
    return contents(keyrings_of(home, manifest_of(home, revision)))


def decoded(content):
    """Return what contents say of each version, by key id and number, and the clients that are off."""
    records, off, *_ = content
    said = [decode_record(head, record)[1] for head, record in records.items()]
    return {(record.key_id, record.version): record for record in said}, off


def told(home: Home, revision: int | None = None):
    """Return what a publication says of each version, and the clients that are off, as :func:`decoded`."""
    return decoded(served(home, revision))
