"""The schedule of rotations, and its last fire."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rotation_schedule",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_fire_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("rotation_schedule_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("rotation_schedule_pkey")),
        schema="mdm",
    )


def downgrade() -> None:
    op.drop_table("rotation_schedule", schema="mdm")
