"""Accounts of admins, each with a role."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "admin_accounts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9_-]{1,39}$'", name=op.f("admin_accounts_name_check")),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name=op.f("admin_accounts_role_check")),
        sa.PrimaryKeyConstraint("name", name=op.f("admin_accounts_pkey")),
        schema="mdm",
    )


def downgrade() -> None:
    op.drop_table("admin_accounts", schema="mdm")
