"""From a version of the registry to its record in the keyring, and keeping the stored records true."""

from dataclasses import replace

from sqlalchemy import Connection

from verifier.control.lifecycle import effective_end
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
        watch=False,
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


def rewrite(connection: Connection, key: Key) -> None:
    """Store the records of all versions of a key anew, after the key or versions of it changed."""
    changes.set_records(connection, [(version.ordinal, encoded(key, version)) for version in key.versions])


def with_version(key: Key, version: Version) -> Key:
    """Return the key with one of its versions exchanged."""
    return replace(
        key, versions=tuple(version if version.number == other.number else other for other in key.versions)
    )
