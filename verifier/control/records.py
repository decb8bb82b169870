"""From a version of the registry to its record in the keyring, and keeping the stored records true."""

from sqlalchemy import Connection

from verifier.control.lifecycle import effective_end, is_watched
from verifier.keyring.records import Record, encode_record
from verifier.registry import changes
from verifier.registry.facts import Key, Version


def record_of(key: Key, version: Version) -> Record:
    """Return what a keyring says of a version. Client switches are no part of it: they are a bitset of their own."""
    return Record(
        client_id=key.client_id,
        key_id=key.key_id,
        version=version.number,
        not_before=version.not_before,
        expires_at=effective_end(key, version),
        superseded_at=version.superseded_at,
        superseded_by=version.superseded_by,
        reason=version.reason,
        revoked=version.revoked_at is not None,
        key_off=not key.enabled,
        watch=is_watched(key, version),
        own_end=version.expires_at,
        key_end=key.expires_at,
        version_ordinal=version.ordinal,
        client_ordinal=key.client_ordinal,
        scopes=key.scopes,
        metadata=key.metadata,
        rules=key.rules,
    )


def encoded(key: Key, version: Version) -> bytes:
    """Return the version's keyring record as bytes.

    Raises:
        InvalidInput: scopes, metadata and rules together are too large for a record.
    """
    return encode_record(record_of(key, version), version.tag)


def rewrite(connection: Connection, key: Key, before: Key | None = None) -> int:
    """Store the records of a changed key's versions anew.

    Args:
        key: after the change; all its versions are stored.
        before: the key before it: records that it leaves as they were are not touched, and stay out of the delta.

    Returns:
        How many records were stored.
    """
    known = {} if before is None else {version.number: record_of(before, version) for version in before.versions}
    different = [version for version in key.versions if record_of(key, version) != known.get(version.number)]
    if different:
        changes.set_records(connection, [(version.ordinal, encoded(key, version)) for version in different])
    return len(different)
