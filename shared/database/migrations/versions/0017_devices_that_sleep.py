"""Devices that sleep, and rotations that are withdrawn from a device that has left."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device_presence", sa.Column("wake_interval_s", sa.Integer(), nullable=True), schema="mdm")
    op.add_column(
        "device_presence", sa.Column("asleep_until", sa.DateTime(timezone=True), nullable=True), schema="mdm"
    )
    _check("device_presence", "wake_interval", "wake_interval_s > 0")
    _check("device_presence", "asleep", "asleep_until IS NULL OR NOT online")
    op.create_index(
        "device_presence_awake_idx",
        "device_presence",
        ["device_id"],
        schema="mdm",
        postgresql_where=sa.text("online AND wake_interval_s IS NOT NULL"),
    )
    op.create_index(
        "device_presence_asleep_idx",
        "device_presence",
        ["asleep_until"],
        schema="mdm",
        postgresql_where=sa.text("asleep_until IS NOT NULL"),
    )
    _set_outcomes("'DONE', 'TIMEOUT', 'WITHDRAWN'")


def downgrade() -> None:
    op.execute("UPDATE mdm.rotations SET outcome = 'TIMEOUT' WHERE outcome = 'WITHDRAWN'")
    _set_outcomes("'DONE', 'TIMEOUT'")
    op.drop_column("device_presence", "asleep_until", schema="mdm")
    op.drop_column("device_presence", "wake_interval_s", schema="mdm")


def _set_outcomes(outcomes: str) -> None:
    op.drop_constraint(op.f("rotations_outcome_check"), "rotations", schema="mdm")
    _check("rotations", "outcome", f"outcome IN ({outcomes})")


def _check(table: str, name: str, condition: str) -> None:
    op.create_check_constraint(op.f(f"{table}_{name}_check"), table, condition, schema="mdm")
