"""Connection profiles: their layers, those that devices were given, and what each device reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "connection_profiles",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        _time("created_at"),
        sa.CheckConstraint("id ~ '^[0-9a-f]{16}$'", name=op.f("connection_profiles_id_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("connection_profiles_pkey")),
        schema="mdm",
    )
    op.create_table(
        "connection_layers",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("wifi", sa.LargeBinary(), nullable=True),
        sa.Column("trial_seconds", sa.Integer(), nullable=True),
        sa.Column("removed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        _time("created_at"),
        sa.CheckConstraint(
            "scope IN ('settings', 'all', 'tag', 'device')", name=op.f("connection_layers_scope_check")
        ),
        sa.CheckConstraint("(scope = 'tag') = (tag IS NOT NULL)", name=op.f("connection_layers_tag_check")),
        sa.CheckConstraint(
            "(scope = 'device') = (device_id IS NOT NULL)", name=op.f("connection_layers_device_check")
        ),
        sa.CheckConstraint("(document ? 'wifi') = (wifi IS NOT NULL)", name=op.f("connection_layers_wifi_check")),
        sa.CheckConstraint("trial_seconds > 0", name=op.f("connection_layers_trial_seconds_check")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("connection_layers_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("connection_layers_pkey")),
        schema="mdm",
    )
    op.create_index(op.f("connection_layers_device_id_idx"), "connection_layers", ["device_id"], schema="mdm")
    op.create_table(
        "device_connections",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=True)
            for name in ("first", "fallback", "in_use", "refused_id", "refused_outcome", "refused_reason")
        ),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_id", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "refused_outcome IN ('rejected', 'reverted')", name=op.f("device_connections_refused_outcome_check")
        ),
        sa.CheckConstraint(
            "(refused_id IS NULL) = (refused_outcome IS NULL) AND (refused_id IS NULL) = (refused_at IS NULL)",
            name=op.f("device_connections_refused_check"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_connections_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("device_connections_pkey")),
        schema="mdm",
    )
    op.add_column("claims", sa.Column("connection_id", sa.Text(), nullable=True), schema="mdm")
    op.create_foreign_key(
        op.f("claims_connection_id_fkey"),
        "claims",
        "connection_profiles",
        ["connection_id"],
        ["id"],
        source_schema="mdm",
        referent_schema="mdm",
    )


def downgrade() -> None:
    op.drop_column("claims", "connection_id", schema="mdm")
    op.drop_table("device_connections", schema="mdm")
    op.drop_table("connection_layers", schema="mdm")
    op.drop_table("connection_profiles", schema="mdm")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
