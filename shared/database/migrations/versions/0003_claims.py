"""Claims, by which machines without an identity get one, and the requests of those machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "claims",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id ~ '^claim-[a-z0-9]{8}$'", name=op.f("claims_id_check")),
        sa.CheckConstraint("uses > 0", name=op.f("claims_uses_check")),
        sa.CheckConstraint("expires_at > created_at", name=op.f("claims_expires_check")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["mdm.device_models.id"], name=op.f("claims_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("claims_pkey")),
        sa.UniqueConstraint("request_id", name=op.f("claims_request_id_key")),
        schema="mdm",
    )
    op.create_index(op.f("claims_model_id_idx"), "claims", ["model_id"], unique=False, schema="mdm")
    op.create_table(
        "claim_requests",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("uid ~ '^([0-9a-f]{12}|[0-9a-f]{16})$'", name=op.f("claim_requests_uid_check")),
        sa.CheckConstraint("state IN ('pending', 'granted', 'denied')", name=op.f("claim_requests_state_check")),
        sa.CheckConstraint(
            "state = 'granted' OR device_id IS NULL", name=op.f("claim_requests_device_when_granted_check")
        ),
        sa.CheckConstraint(
            "(device_id IS NULL) = (granted_at IS NULL)", name=op.f("claim_requests_granted_at_check")
        ),
        sa.ForeignKeyConstraint(
            ["claim_id"], ["mdm.claims.id"], name=op.f("claim_requests_claim_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("claim_requests_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("claim_requests_pkey")),
        sa.UniqueConstraint("device_id", name=op.f("claim_requests_device_id_key")),
        schema="mdm",
    )
    op.create_index(
        op.f("claim_requests_claim_id_idx"), "claim_requests", ["claim_id"], unique=False, schema="mdm"
    )


def downgrade() -> None:
    op.drop_table("claim_requests", schema="mdm")
    op.drop_table("claims", schema="mdm")
