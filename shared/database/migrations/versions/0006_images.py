"""Images are pinned, signed and deleted; what their store has to give up is noted first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "firmware_images",
        sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="mdm",
    )
    op.add_column("firmware_images", sa.Column("signature", sa.LargeBinary(), nullable=True), schema="mdm")
    op.create_check_constraint(
        op.f("firmware_images_signature_check"), "firmware_images", "octet_length(signature) = 64", schema="mdm"
    )
    op.create_table(
        "firmware_keys",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(public_key) = 32", name=op.f("firmware_keys_public_key_check")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["mdm.device_models.id"], name=op.f("firmware_keys_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "fingerprint", name=op.f("firmware_keys_pkey")),
        schema="mdm",
    )
    op.create_table(
        "firmware_leftovers",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("firmware_leftovers_pkey")),
        schema="mdm",
    )
    # An image that a device could not run is not offered to it again, also when it was deleted in between.
    op.drop_constraint("firmware_deliveries_sha256_fkey", "firmware_deliveries", schema="mdm")


def downgrade() -> None:
    op.execute("DELETE FROM mdm.firmware_deliveries WHERE sha256 NOT IN (SELECT sha256 FROM mdm.firmware_images)")
    op.create_foreign_key(
        "firmware_deliveries_sha256_fkey",
        "firmware_deliveries",
        "firmware_images",
        ["sha256"],
        ["sha256"],
        source_schema="mdm",
        referent_schema="mdm",
    )
    op.drop_table("firmware_leftovers", schema="mdm")
    op.drop_table("firmware_keys", schema="mdm")
    for name in ("signature", "pinned"):
        op.drop_column("firmware_images", name, schema="mdm")
