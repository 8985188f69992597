"""Rollouts of firmware in waves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("plan", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("waves", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("wave", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("met_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("in_force", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('RUNNING', 'PAUSED', 'HALTED', 'ABORTED', 'COMPLETED')", name=op.f("rollouts_state_check")
        ),
        sa.CheckConstraint(
            "(state IN ('ABORTED', 'COMPLETED')) = (ended_at IS NOT NULL)", name=op.f("rollouts_ended_check")
        ),
        sa.CheckConstraint(
            "state <> 'HALTED' OR reason IS NOT NULL", name=op.f("rollouts_reason_when_halted_check")
        ),
        sa.CheckConstraint(
            "sha256 IS NOT NULL OR ended_at IS NOT NULL", name=op.f("rollouts_image_while_open_check")
        ),
        sa.CheckConstraint("in_force OR ended_at IS NOT NULL", name=op.f("rollouts_in_force_while_open_check")),
        sa.CheckConstraint("0 <= wave AND wave <= waves", name=op.f("rollouts_wave_check")),
        sa.CheckConstraint("percent BETWEEN 1 AND 100", name=op.f("rollouts_percent_check")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["mdm.device_models.id"], name=op.f("rollouts_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sha256"], ["mdm.firmware_images.sha256"], name=op.f("rollouts_sha256_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("rollouts_pkey")),
        schema="mdm",
    )
    op.create_index(op.f("rollouts_model_id_idx"), "rollouts", ["model_id"], schema="mdm")
    op.create_index(op.f("rollouts_sha256_idx"), "rollouts", ["sha256"], schema="mdm")
    op.create_table(
        "rollout_devices",
        sa.Column("rollout_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("forgiven", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('WAITING', 'OFFERED', 'TAKEN', 'CONFIRMED', 'FAILED', 'ROLLED_BACK', 'SILENT', 'SKIPPED')",
            name=op.f("rollout_devices_state_check"),
        ),
        sa.CheckConstraint("wave >= 0", name=op.f("rollout_devices_wave_check")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("rollout_devices_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["mdm.rollouts.id"], name=op.f("rollout_devices_rollout_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "device_id", name=op.f("rollout_devices_pkey")),
        schema="mdm",
    )
    op.create_index(op.f("rollout_devices_device_id_idx"), "rollout_devices", ["device_id"], schema="mdm")
    op.create_index(
        "rollout_devices_live_key",
        "rollout_devices",
        ["device_id"],
        unique=True,
        schema="mdm",
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "rollout_devices_rollout_id_wave_state_idx",
        "rollout_devices",
        ["rollout_id", "wave", "state"],
        schema="mdm",
    )
    op.create_index(
        "rollout_devices_rollout_id_offered_at_idx", "rollout_devices", ["rollout_id", "offered_at"], schema="mdm"
    )
    op.create_index(
        "rollout_devices_under_way_idx",
        "rollout_devices",
        ["rollout_id"],
        schema="mdm",
        postgresql_where=sa.text("state IN ('OFFERED', 'TAKEN')"),
    )


def downgrade() -> None:
    op.drop_table("rollout_devices", schema="mdm")
    op.drop_table("rollouts", schema="mdm")
