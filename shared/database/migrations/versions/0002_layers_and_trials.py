"""Layers of configuration by tag, trials of a configuration, and what became of each version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "config_layers",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("document", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tag", name=op.f("config_layers_pkey")),
        schema="mdm",
    )
    op.add_column("device_configs", sa.Column("trial_seconds", sa.Integer(), nullable=True), schema="mdm")
    op.add_column("device_configs", sa.Column("outcome", sa.Text(), nullable=True), schema="mdm")
    op.add_column(
        "device_configs", sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True), schema="mdm"
    )
    op.create_check_constraint(
        op.f("device_configs_trial_seconds_check"), "device_configs", "trial_seconds > 0", schema="mdm"
    )
    op.create_check_constraint(
        op.f("device_configs_outcome_check"),
        "device_configs",
        "outcome IN ('applied', 'rejected', 'reverted')",
        schema="mdm",
    )
    op.create_check_constraint(
        op.f("device_configs_reported_check"),
        "device_configs",
        "(outcome IS NULL) = (reported_at IS NULL)",
        schema="mdm",
    )
    # What a device last said is all that was kept of its reports; when it said so is known only as "not later than".
    op.execute(
        """
        UPDATE mdm.device_configs AS config
        SET outcome = presence.config_outcome, reported_at = coalesce(presence.last_seen_at, now())
        FROM mdm.device_presence AS presence
        WHERE presence.device_id = config.device_id AND presence.config_version = config.version
            AND presence.config_outcome IS NOT NULL
        """
    )


def downgrade() -> None:
    op.drop_table("config_layers", schema="mdm")
    for name in ("reported_at", "outcome", "trial_seconds"):
        op.drop_column("device_configs", name, schema="mdm")
