"""Format 1: clients, keys and their versions, and what was published of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Ordinal = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables in an empty database."""
    op.create_table(
        "registry",
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("schema", sa.Integer, nullable=False),
        sa.Column("store_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_revision", sa.BigInteger, nullable=False),
        sa.Column("hold", sa.BigInteger),
        sa.Column("peppers", sa.Text, nullable=False),
        sa.Column("accepts_foreign", sa.Boolean, nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
        sa.Column("published_changes", sa.BigInteger, nullable=False),
        sa.Column("intent_revision", sa.BigInteger),
        sa.Column("intent_digest", sa.String(64)),
        sa.Column("intent_changes", sa.BigInteger),
        sa.Column("next_client", sa.BigInteger, nullable=False),
        sa.Column("next_key", sa.BigInteger, nullable=False),
        sa.Column("next_version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "prefixes",
        sa.Column("prefix", sa.String(32), primary_key=True),
        sa.Column("mode", sa.String(8), nullable=False),
    )
    op.create_table(
        "clients",
        sa.Column("ordinal", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("client_id", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("ordinal", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("client_ordinal", Ordinal, sa.ForeignKey("clients.ordinal"), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("policy", sa.Text),
    )
    op.create_table(
        "versions",
        sa.Column("ordinal", Ordinal, primary_key=True, autoincrement=False),
        sa.Column("tag", sa.LargeBinary(32), nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("key_ordinal", Ordinal, sa.ForeignKey("keys.ordinal"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("superseded_at", sa.BigInteger),
        sa.Column("superseded_by", sa.Integer, nullable=False, server_default="0"),
        sa.Column("retire_at", sa.BigInteger),
        sa.Column("clock", sa.String(16)),
        sa.Column("overlap_s", sa.BigInteger),
        sa.Column("ceiling", sa.BigInteger),
        sa.Column("first_used_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("reason", sa.SmallInteger),
        sa.Column("cut", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("entropy_bits", sa.Integer),
    )
    op.create_index("keys_key_id", "keys", ["key_id"], unique=True)
    op.create_index("versions_tag", "versions", ["tag"], unique=True)
    op.create_index("keys_client", "keys", ["client_ordinal", "ordinal"])
    op.create_index("versions_key", "versions", ["key_ordinal", "number"], unique=True)
