"""The instance id, device keys, what each place holds of a secret, and accounts that no row knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_OPEN = "rotations_secrets_only_while_open_check"


def upgrade() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("uuid", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.Column("private_key", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("instance_one_row_check")),
        sa.CheckConstraint("(public_key IS NULL) = (private_key IS NULL)", name=op.f("instance_key_pair_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("instance_pkey")),
        schema="mdm",
    )
    op.execute("INSERT INTO mdm.instance DEFAULT VALUES")
    op.create_table(
        "strays",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("strays_pkey")),
        schema="mdm",
    )
    op.add_column("devices", sa.Column("secret_fingerprint", sa.Text(), nullable=True), schema="mdm")
    op.add_column("devices", sa.Column("public_key", sa.Text(), nullable=True), schema="mdm")
    op.add_column("devices", sa.Column("verify_at", sa.DateTime(timezone=True), nullable=True), schema="mdm")
    op.add_column(
        "device_presence", sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True), schema="mdm"
    )
    op.create_index(
        "devices_verify_at_idx",
        "devices",
        ["verify_at"],
        schema="mdm",
        postgresql_where=sa.text("verify_at IS NOT NULL"),
    )
    op.drop_constraint(op.f(_OPEN), "rotations", schema="mdm", type_="check")
    op.create_check_constraint(
        op.f(_OPEN),
        "rotations",
        "(outcome IS NULL) = (new_secret IS NOT NULL) AND (outcome IS NULL OR old_secret IS NULL)",
        schema="mdm",
    )


def downgrade() -> None:
    op.drop_constraint(op.f(_OPEN), "rotations", schema="mdm", type_="check")
    op.create_check_constraint(
        op.f(_OPEN),
        "rotations",
        "num_nulls(new_secret, old_secret) = CASE WHEN outcome IS NULL THEN 0 ELSE 2 END",
        schema="mdm",
    )
    op.drop_index("devices_verify_at_idx", "devices", schema="mdm")
    op.drop_column("device_presence", "refused_at", schema="mdm")
    op.drop_column("devices", "verify_at", schema="mdm")
    op.drop_column("devices", "public_key", schema="mdm")
    op.drop_column("devices", "secret_fingerprint", schema="mdm")
    op.drop_table("strays", schema="mdm")
    op.drop_table("instance", schema="mdm")
