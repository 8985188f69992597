"""What devices report against the rules, and two boards with one identity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_flaws",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_flaws_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "topic", "field", name=op.f("device_flaws_pkey")),
        schema="mdm",
    )
    op.add_column(
        "device_presence", sa.Column("clashed_at", sa.DateTime(timezone=True), nullable=True), schema="mdm"
    )


def downgrade() -> None:
    op.drop_column("device_presence", "clashed_at", schema="mdm")
    op.drop_table("device_flaws", schema="mdm")
