"""Accounts of consumers, which have the role `app`."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _set_roles("'app', 'viewer', 'operator', 'admin'")


def downgrade() -> None:
    # The reconciler removes their accounts from the broker.
    op.execute("DELETE FROM mdm.admin_accounts WHERE role = 'app'")
    _set_roles("'viewer', 'operator', 'admin'")


def _set_roles(roles: str) -> None:
    name = op.f("admin_accounts_role_check")
    op.drop_constraint(name, "admin_accounts", schema="mdm", type_="check")
    op.create_check_constraint(name, "admin_accounts", f"role IN ({roles})", schema="mdm")
