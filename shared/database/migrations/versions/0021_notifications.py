"""Rules of notifications, what they have notified of, and their messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "notification_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("model_id", sa.BigInteger(), nullable=True),
        sa.Column("hold_s", sa.Integer(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("older_than_s", sa.Integer(), nullable=False),
        sa.Column("url", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("busy_until", _TIME, nullable=True),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("notification_rules_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["mdm.device_models.id"],
            name=op.f("notification_rules_model_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("notification_rules_pkey")),
        sa.UniqueConstraint("name", name=op.f("notification_rules_name_key")),
        schema="mdm",
    )
    for column in ("device_id", "model_id"):
        op.create_index(
            op.f(f"notification_rules_{column}_idx"), "notification_rules", [column], unique=False, schema="mdm"
        )
    op.create_table(
        "notification_subjects",
        sa.Column("rule_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("fired", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("over_since", _TIME, nullable=True),
        _of_rule("notification_subjects"),
        sa.PrimaryKeyConstraint("rule_id", "subject", name=op.f("notification_subjects_pkey")),
        schema="mdm",
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("subjects", postgresql.JSONB(astext_type=sa.Text(), none_as_null=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint("state IN ('firing', 'resolved', 'test')", name=op.f("notifications_state_check")),
        _of_rule("notifications"),
        sa.PrimaryKeyConstraint("id", name=op.f("notifications_pkey")),
        schema="mdm",
    )
    op.create_index(
        "notifications_waiting_idx",
        "notifications",
        ["rule_id", "number"],
        schema="mdm",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("notifications_number_idx", "notifications", ["number"], schema="mdm")


def _of_rule(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["rule_id"], ["mdm.notification_rules.id"], name=op.f(f"{table}_rule_id_fkey"), ondelete="CASCADE"
    )


def downgrade() -> None:
    for table in ("notifications", "notification_subjects", "notification_rules"):
        op.drop_table(table, schema="mdm")
