"""Commands to devices, and which of them a model's devices know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "device_models",
        sa.Column("commands", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        schema="mdm",
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("(ok IS NULL) = (answered_at IS NULL)", name=op.f("commands_answered_check")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("commands_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("commands_pkey")),
        sa.UniqueConstraint("batch_id", "device_id", name=op.f("commands_batch_id_device_id_key")),
        schema="mdm",
    )
    op.create_index("commands_device_id_created_at_idx", "commands", ["device_id", "created_at"], schema="mdm")
    op.create_index(op.f("commands_created_at_idx"), "commands", ["created_at"], schema="mdm")


def downgrade() -> None:
    op.drop_table("commands", schema="mdm")
    op.drop_column("device_models", "commands", schema="mdm")
