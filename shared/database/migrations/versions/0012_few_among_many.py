"""Indexes by which few devices are found among many: with a tag, online, about to reboot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("devices_tags_idx", "devices", ["tags"], schema="mdm", postgresql_using="gin")
    op.create_index(
        "device_presence_online_idx",
        "device_presence",
        ["device_id"],
        schema="mdm",
        postgresql_where=sa.text("online"),
    )
    op.create_index(
        "firmware_deliveries_rebooting_idx",
        "firmware_deliveries",
        ["device_id"],
        schema="mdm",
        postgresql_where=sa.text("stage = 'rebooting'"),
    )


def downgrade() -> None:
    op.drop_index("firmware_deliveries_rebooting_idx", "firmware_deliveries", schema="mdm")
    op.drop_index("device_presence_online_idx", "device_presence", schema="mdm")
    op.drop_index("devices_tags_idx", "devices", schema="mdm")
