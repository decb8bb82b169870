"""The registry's tables.

The SQL is portable: SQLite and PostgreSQL. Times are seconds since 1970. Ordinals are handed out by the
counters of the one ``registry`` row, inside the transaction that uses them, so they are stable for ever and never used
twice, on any database. Beside each version lies ``record``, its encoded keyring record: ten million keys can be
published only because nothing has to be encoded then, so every change that touches a record rewrites it.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    false,
)

SCHEMA = 2
NATIVE = "NATIVE"
MIXED = "MIXED"

# On SQLite a primary key of type INTEGER is the row's own address; BIGINT would need an index of its own.
Ordinal = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

registry = Table(
    "registry",
    metadata,
    Column("row", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("schema", Integer, nullable=False),
    Column("store_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_revision", BigInteger, nullable=False),
    Column("hold", BigInteger),  # the revision that is held after a rollback
    Column("peppers", Text, nullable=False),  # ids, joined by spaces, in the order of their layers
    Column("accepts_foreign", Boolean, nullable=False),  # tokens of no known prefix are looked up, too
    Column("changes", BigInteger, nullable=False),  # made so far
    Column("published_changes", BigInteger, nullable=False),  # of those, in the last publication
    Column("published_next_version", BigInteger),  # ``next_version`` when its records were read
    # A publication about to become current: whoever publishes next can tell that it was ours, after a crash.
    Column("intent_revision", BigInteger),
    Column("intent_digest", String(64)),  # SHA-256 of its manifest
    Column("intent_changes", BigInteger),  # what published_changes becomes
    Column("intent_outcome", Text),  # JSON: what else this row says once it is current
    Column("next_client", BigInteger, nullable=False),
    Column("next_key", BigInteger, nullable=False),
    Column("next_version", BigInteger, nullable=False),
    # The base that deltas are built on: what it was built from. NULL: the next publication builds a new one.
    Column("base_sha256", String(64)),
    Column("base_changes", BigInteger),  # ``changes`` when its records were read
    Column("base_next_version", BigInteger),  # versions from this ordinal on came after it
    Column("base_at", BigInteger),
    Column("held_since", BigInteger),  # the revision that began the hold
    Column("drop_newer", Boolean, nullable=False, server_default=false()),  # held, and newer keys are refused
    Column("leaked_peppers", Text, nullable=False, server_default=""),  # ids, joined by spaces: never publish with
    Column("policy", Text),  # JSON, for keys whose client and self say nothing
    Column("usage_since", BigInteger),  # when the first report of usage came
    Column("events_to", BigInteger),  # events of the clock were emitted up to this second
    Column("events_until", BigInteger),  # those up to this one are being emitted, key by key; NULL: none
    Column("events_place", BigInteger),  # and this was the last key
)

prefixes = Table(
    "prefixes",
    metadata,
    Column("prefix", String(32), primary_key=True),
    Column("mode", String(8), nullable=False),  # NATIVE or MIXED
)

clients = Table(
    "clients",
    metadata,
    Column("ordinal", Ordinal, primary_key=True, autoincrement=False),
    Column("client_id", String(64), nullable=False, unique=True),
    Column("name", Text),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("policy", Text),  # JSON, for keys that say nothing themselves
)

keys = Table(
    "keys",
    metadata,
    Column("ordinal", Ordinal, primary_key=True, autoincrement=False),
    Column("key_id", String(64), nullable=False),
    Column("client_ordinal", Ordinal, ForeignKey("clients.ordinal"), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("scopes", Text, nullable=False),  # joined by spaces, sorted
    Column("rules", Text, nullable=False),  # CIDR, joined by spaces
    Column("metadata", Text, nullable=False),  # JSON object, or empty
    Column("prefix", String(32), nullable=False),
    Column("policy", Text),  # JSON, for rotation
    Column("due_at", BigInteger),  # when the schedule rotates it, by its effective policy
)

versions = Table(
    "versions",
    metadata,
    Column("ordinal", Ordinal, primary_key=True, autoincrement=False),
    # First, so that publishing reads no more of a row than it needs.
    Column("tag", LargeBinary(32), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("key_ordinal", Ordinal, ForeignKey("keys.ordinal"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("not_before", BigInteger),
    Column("expires_at", BigInteger),  # its own end, which no rotation touches
    Column("superseded_at", BigInteger),
    Column("superseded_by", Integer, nullable=False, server_default="0"),
    Column("retire_at", BigInteger),  # end of its overlap, which a rollback can clear
    Column("clock", String(16)),  # fixed, on_first_use or manual
    Column("overlap_s", BigInteger),
    Column("ceiling", BigInteger),
    Column("first_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("reason", SmallInteger),  # RFC 5280 number; set with revoked_at
    Column("cut", Boolean, nullable=False, server_default=false()),  # its window was ended by a person
    Column("entropy_bits", Integer),  # declared at import; NULL: the secret was made here
    Column("last_used_at", BigInteger),
)

# Versions whose record was rewritten since the base was built; with all from registry.base_next_version on, the delta.
dirty = Table(
    "dirty",
    metadata,
    Column("version_ordinal", Ordinal, ForeignKey("versions.ordinal"), primary_key=True, autoincrement=False),
    Column("change", BigInteger, nullable=False),  # registry.changes after the change
)

# Every version that was ever compromised. By tag: the same token stays refused if it is imported again.
tombstones = Table(
    "tombstones",
    metadata,
    Column("tag", LargeBinary(32), primary_key=True),
    Column("key_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
)

# Append-only. ``hash`` binds an entry to all before it (docs/audit-log.md).
audit = Table(
    "audit",
    metadata,
    Column("sequence", Ordinal, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("principal", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("client_id", String(64)),
    Column("key_id", String(64)),
    Column("version", Integer),
    Column("details", Text, nullable=False),  # JSON object, canonical, without secrets
    Column("request_id", String(64)),
    Column("change", BigInteger, nullable=False),  # registry.changes after it: tells which publication holds it
    Column("revision", BigInteger),  # of the publication, in entries about one
    Column("hash", String(64), nullable=False),
)

# Answers to commands, so that a repeat has no second effect. Kept for a week.
requests = Table(
    "requests",
    metadata,
    Column("principal", String(128), primary_key=True),
    Column("request_id", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),  # SHA-256 of the request
    Column("response", LargeBinary, nullable=False),  # without the token
    Column("at", BigInteger, nullable=False),
)

# What happened to keys, for those who want to be told: appended with the change itself.
events = Table(
    "events",
    metadata,
    Column("sequence", Ordinal, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(64), nullable=False),  # such as version.retiring
    Column("client_id", String(64)),
    Column("key_id", String(64)),
    Column("version", Integer),
    Column("details", Text, nullable=False),  # JSON object
)

# Who may use the operators' API.
identities = Table(
    "identities",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),  # viewer, operator, publisher, admin or node
    Column("digest", String(64), unique=True),  # SHA-256 of its bearer token; NULL: known by its certificate only
    Column("certificate_name", String(255), unique=True),  # subject or SAN of a client certificate
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("disabled_at", BigInteger),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("epoch", String(16), nullable=False),  # hexadecimal
    Column("first_seen_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
    Column("stopped_at", BigInteger),  # said so itself
    Column("forgotten_at", BigInteger),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("served_at_ms", BigInteger),
    Column("load_ms", Integer),
    Column("refusal", Text),  # JSON
    Column("clock_skew_ms", Integer),
    Column("version", String(64)),
    Column("addresses", Text, nullable=False, server_default=""),  # joined by spaces
    Column("usage_epoch", String(16)),
    Column("usage_sequence", BigInteger, nullable=False, server_default="0"),
    Column("usage_from_ms", BigInteger),  # since when its reports have been coming
    Column("usage_to_ms", BigInteger),
)

# Times for which a node's reports are missing: it was killed, or usage was lost.
node_gaps = Table(
    "node_gaps",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("from_ms", BigInteger, primary_key=True),
    Column("to_ms", BigInteger, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("version_ordinal", Ordinal, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970, UTC
    Column("valid", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("hours", Integer, nullable=False),  # bit h: VALID was answered in hour h
)

# By the hour only for versions with a window in the last 30 days, their successors, and watched ones.
usage_hours = Table(
    "usage_hours",
    metadata,
    Column("version_ordinal", Ordinal, primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),  # hours since 1970
    Column("valid", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
)

# Networks that watched versions were used from.
usage_addresses = Table(
    "usage_addresses",
    metadata,
    Column("version_ordinal", Ordinal, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("network", String(64), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("node", String(64), nullable=False),
    Column("last_at", BigInteger, nullable=False),
)

# The two random ones; large inserts drop them and make them anew at the end, which is several times faster.
key_id_index = Index("keys_key_id", keys.c.key_id, unique=True)
tag_index = Index("versions_tag", versions.c.tag, unique=True)
Index("keys_client", keys.c.client_ordinal, keys.c.ordinal)
Index("versions_key", versions.c.key_ordinal, versions.c.number, unique=True)


def _sparse(name: str, column: Column[Any]) -> Index:
    """Index only the rows that have a value: most versions have none, and cost nothing."""
    there = column.is_not(None)
    return Index(name, column, sqlite_where=there, postgresql_where=there)


# What the clock does to versions is found by these.
for _column in (versions.c.not_before, versions.c.superseded_at, versions.c.retire_at, versions.c.expires_at):
    _sparse(f"versions_{_column.name}", _column)
_sparse("keys_expires_at", keys.c.expires_at)
_sparse("keys_due_at", keys.c.due_at)
# Which policies there are, and the windows that nothing but a person or the schedule ends.
_sparse("clients_policy", clients.c.policy)
_sparse("keys_policy", keys.c.policy)
_open_ended = and_(versions.c.superseded_by > 0, versions.c.retire_at.is_(None))
Index("versions_open_ended", versions.c.key_ordinal, sqlite_where=_open_ended, postgresql_where=_open_ended)
Index("dirty_change", dirty.c.change)
_off = clients.c.enabled.is_(False)
Index("clients_off", clients.c.ordinal, sqlite_where=_off, postgresql_where=_off)
Index("audit_key", audit.c.key_id, audit.c.sequence)
Index("events_key", events.c.key_id, events.c.sequence)
Index("usage_day", usage.c.day)
