"""Who has set the schedule of rotations; and models keep the order of the keys that their owner wrote."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_ORDERED = ("config_schema", "config_defaults")


def upgrade() -> None:
    op.add_column("rotation_schedule", sa.Column("author", sa.Text(), nullable=True), schema="mdm")
    for column in _ORDERED:
        op.execute(f"ALTER TABLE mdm.device_models ALTER COLUMN {column} TYPE json USING {column}::json")


def downgrade() -> None:
    for column in _ORDERED:
        op.execute(f"ALTER TABLE mdm.device_models ALTER COLUMN {column} TYPE jsonb USING {column}::jsonb")
    op.drop_column("rotation_schedule", "author", schema="mdm")
