"""The end of each connection, and the health that was last announced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device_presence", sa.Column("left_at", sa.DateTime(timezone=True), nullable=True), schema="mdm")
    # Only a service's own offline status had made these seen: a device's sets `status`.
    op.execute("UPDATE mdm.device_presence SET last_seen_at = NULL WHERE status IS NULL AND NOT online")
    op.create_table(
        "device_health",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("health", sa.Text(), nullable=False),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_health_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("device_health_pkey")),
        schema="mdm",
    )


def downgrade() -> None:
    op.drop_table("device_health", schema="mdm")
    op.drop_column("device_presence", "left_at", schema="mdm")
