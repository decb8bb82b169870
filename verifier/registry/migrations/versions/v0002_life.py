"""Format 2: the whole life of a key, the delta's bookkeeping, audit log, events, identities, nodes and usage.

The next publication builds a new base, as nothing says what the present one was built from.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Ordinal = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add columns, tables and indexes, and note every version that was ever compromised."""
    _add_columns()
    _add_change_tables()
    _add_log_tables()
    _add_node_tables()
    _add_indexes()
    op.execute(
        "INSERT INTO tombstones (tag, key_id, number, revoked_at) "
        "SELECT versions.tag, keys.key_id, versions.number, versions.revoked_at "
        "FROM versions JOIN keys ON keys.ordinal = versions.key_ordinal "
        "WHERE versions.reason = 1 AND versions.revoked_at IS NOT NULL"  # key_compromise
    )


def _add_columns() -> None:
    added: dict[str, list[sa.Column[object]]] = {
        "registry": [
            sa.Column("published_next_version", sa.BigInteger),
            sa.Column("intent_outcome", sa.Text),
            sa.Column("base_sha256", sa.String(64)),
            sa.Column("base_changes", sa.BigInteger),
            sa.Column("base_next_version", sa.BigInteger),
            sa.Column("base_at", sa.BigInteger),
            sa.Column("held_since", sa.BigInteger),
            sa.Column("drop_newer", sa.Boolean, nullable=False, server_default=sa.false()),
            sa.Column("leaked_peppers", sa.Text, nullable=False, server_default=""),
            sa.Column("policy", sa.Text),
            sa.Column("usage_since", sa.BigInteger),
            sa.Column("events_to", sa.BigInteger),
            sa.Column("events_until", sa.BigInteger),
            sa.Column("events_place", sa.BigInteger),
        ],
        "clients": [sa.Column("policy", sa.Text)],
        "keys": [sa.Column("due_at", sa.BigInteger)],
        "versions": [sa.Column("last_used_at", sa.BigInteger)],
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)


def _add_change_tables() -> None:
    op.create_table(
        "dirty",
        sa.Column(
            "version_ordinal", Ordinal, sa.ForeignKey("versions.ordinal"), primary_key=True, autoincrement=False
        ),
        sa.Column("change", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tombstones",
        sa.Column("tag", sa.LargeBinary(32), primary_key=True),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=False),
    )


def _add_log_tables() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("principal", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(64)),
        sa.Column("key_id", sa.String(64)),
        sa.Column("version", sa.Integer),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("principal", sa.String(128), primary_key=True),
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("sequence", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(64)),
        sa.Column("key_id", sa.String(64)),
        sa.Column("version", sa.Integer),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_table(
        "identities",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), unique=True),
        sa.Column("certificate_name", sa.String(255), unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("disabled_at", sa.BigInteger),
    )


def _add_node_tables() -> None:
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("epoch", sa.String(16), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger, nullable=False),
        sa.Column("last_seen_at", sa.BigInteger, nullable=False),
        sa.Column("stopped_at", sa.BigInteger),
        sa.Column("forgotten_at", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("served_at_ms", sa.BigInteger),
        sa.Column("load_ms", sa.Integer),
        sa.Column("refusal", sa.Text),
        sa.Column("clock_skew_ms", sa.Integer),
        sa.Column("version", sa.String(64)),
        sa.Column("addresses", sa.Text, nullable=False, server_default=""),
        sa.Column("usage_epoch", sa.String(16)),
        sa.Column("usage_sequence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("usage_from_ms", sa.BigInteger),
        sa.Column("usage_to_ms", sa.BigInteger),
    )
    op.create_table(
        "node_gaps",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("from_ms", sa.BigInteger, primary_key=True),
        sa.Column("to_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "usage",
        sa.Column("version_ordinal", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("valid", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.Column("hours", sa.Integer, nullable=False),
    )
    op.create_table(
        "usage_hours",
        sa.Column("version_ordinal", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("valid", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "usage_addresses",
        sa.Column("version_ordinal", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("network", sa.String(64), primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )


def _add_indexes() -> None:
    sparse = [("versions", name) for name in ("not_before", "superseded_at", "retire_at", "expires_at")]
    sparse += [("keys", "expires_at"), ("keys", "due_at"), ("clients", "policy"), ("keys", "policy")]
    for table, name in sparse:
        there = sa.column(name).is_not(None)
        op.create_index(f"{table}_{name}", table, [name], sqlite_where=there, postgresql_where=there)
    open_ended = sa.and_(sa.column("superseded_by", sa.Integer) > 0, sa.column("retire_at").is_(None))
    op.create_index(
        "versions_open_ended", "versions", ["key_ordinal"], sqlite_where=open_ended, postgresql_where=open_ended
    )
    off = sa.column("enabled", sa.Boolean).is_(False)
    op.create_index("clients_off", "clients", ["ordinal"], sqlite_where=off, postgresql_where=off)
    op.create_index("dirty_change", "dirty", ["change"])
    op.create_index("events_key", "events", ["key_id", "sequence"])
    op.create_index("audit_key", "audit", ["key_id", "sequence"])
    op.create_index("usage_day", "usage", ["day"])
