"""What devices measure of themselves, events that are kept, and when the present start of a device was noticed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_DOCUMENT = postgresql.JSONB(astext_type=sa.Text(), none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "device_vitals",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hour", _TIME, nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("vitals", _DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_vitals_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "hour", name=op.f("device_vitals_pkey")),
        schema="mdm",
    )
    op.create_index("device_vitals_hour_idx", "device_vitals", ["hour"], schema="mdm", postgresql_using="brin")
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=True),
        sa.Column("data", _DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("events_pkey")),
        schema="mdm",
    )
    op.create_index(
        "events_client_id_id_idx",
        "events",
        ["client_id", "id"],
        schema="mdm",
        postgresql_where=sa.text("client_id IS NOT NULL"),
    )
    op.create_index("events_at_idx", "events", ["at"], schema="mdm", postgresql_using="brin")
    op.add_column("device_presence", sa.Column("booted_at", _TIME, nullable=True), schema="mdm")


def downgrade() -> None:
    op.drop_column("device_presence", "booted_at", schema="mdm")
    op.drop_table("events", schema="mdm")
    op.drop_table("device_vitals", schema="mdm")
