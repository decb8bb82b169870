"""The registry's tables.

The SQL is portable: SQLite today, PostgreSQL later. Times are seconds since 1970. Ordinals are handed out by the
counters of the one ``registry`` row, inside the transaction that uses them, so they are stable for ever and never used
twice, on any database. Beside each version lies ``record``, its encoded keyring record: ten million keys can be
published only because nothing has to be encoded then, so every change that touches a record rewrites it.
"""

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
)

SCHEMA = 1
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
    # A publication about to become current: whoever publishes next can tell that it was ours, after a crash.
    Column("intent_revision", BigInteger),
    Column("intent_digest", String(64)),  # SHA-256 of its manifest
    Column("intent_changes", BigInteger),  # what published_changes becomes
    Column("next_client", BigInteger, nullable=False),
    Column("next_key", BigInteger, nullable=False),
    Column("next_version", BigInteger, nullable=False),
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
    Column("cut", Boolean, nullable=False, server_default="0"),  # its window was ended by a person
    Column("entropy_bits", Integer),  # declared at import; NULL: the secret was made here
)

# The two random ones; large inserts drop them and make them anew at the end, which is several times faster.
key_id_index = Index("keys_key_id", keys.c.key_id, unique=True)
tag_index = Index("versions_tag", versions.c.tag, unique=True)
Index("keys_client", keys.c.client_ordinal, keys.c.ordinal)
Index("versions_key", versions.c.key_ordinal, versions.c.number, unique=True)
