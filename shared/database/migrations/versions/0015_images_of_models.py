"""Images belong to several models and have several hashes; Secure Boot, chip revisions; images that fall back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_STAGES = "'offered', 'downloading', 'verifying', 'rebooting', 'confirmed', 'failed', 'rolled_back'"


def upgrade() -> None:
    _drop_keys()
    op.create_primary_key(op.f("firmware_images_pkey"), "firmware_images", ["model_id", "sha256"], schema="mdm")
    for column in _facts():
        op.add_column("firmware_images", column, schema="mdm")
    op.alter_column("firmware_images", "elf_sha256", nullable=True, schema="mdm")
    op.add_column(
        "device_models",
        sa.Column("secure_boot_keys", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        schema="mdm",
    )
    _create_keys(["model_id", "sha256"], ["id", "image_sha256"])
    op.add_column(
        "firmware_deliveries",
        sa.Column("fallbacks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        schema="mdm",
    )
    op.drop_index("firmware_deliveries_rebooting_idx", "firmware_deliveries", schema="mdm")
    _set_stages(f"'withheld', {_STAGES}, 'fell_back'")


def downgrade() -> None:
    op.execute("DELETE FROM mdm.firmware_deliveries WHERE stage = 'withheld'")
    op.execute("UPDATE mdm.firmware_deliveries SET stage = 'confirmed' WHERE stage = 'fell_back'")
    _set_stages(_STAGES)
    op.create_index(
        "firmware_deliveries_rebooting_idx",
        "firmware_deliveries",
        ["device_id"],
        schema="mdm",
        postgresql_where=sa.text("stage = 'rebooting'"),
    )
    op.drop_column("firmware_deliveries", "fallbacks", schema="mdm")
    _drop_keys()
    # One model keeps an image that several have; the others' rollouts and releases of it go.
    op.execute(
        "DELETE FROM mdm.firmware_images AS extra USING mdm.firmware_images AS kept"
        " WHERE kept.sha256 = extra.sha256 AND kept.model_id < extra.model_id"
    )
    for table, model_id, sha256 in (("rollouts", "model_id", "sha256"), ("device_models", "id", "image_sha256")):
        op.execute(
            f"UPDATE mdm.{table} SET {sha256} = NULL WHERE {sha256} IS NOT NULL AND NOT EXISTS ("  # noqa: S608
            f"SELECT FROM mdm.firmware_images AS image"
            f" WHERE (image.model_id, image.sha256) = ({table}.{model_id}, {table}.{sha256}))"
        )
    op.create_primary_key(op.f("firmware_images_pkey"), "firmware_images", ["sha256"], schema="mdm")
    op.execute("UPDATE mdm.firmware_images SET elf_sha256 = '' WHERE elf_sha256 IS NULL")
    op.alter_column("firmware_images", "elf_sha256", nullable=False, schema="mdm")
    op.drop_column("device_models", "secure_boot_keys", schema="mdm")
    for column in _facts():
        op.drop_column("firmware_images", column.name, schema="mdm")
    _create_keys(["sha256"], ["image_sha256"], on_delete_of_image="SET NULL")


def _facts() -> list[sa.Column[object]]:
    return [
        sa.Column("embedded_version", sa.Text(), nullable=True),
        sa.Column("app_sha256", sa.Text(), nullable=True),
        sa.Column("min_chip_revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_chip_revision", sa.Integer(), nullable=True),
        sa.Column("secure_boot_signatures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("secure_boot_keys", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    ]


def _drop_keys() -> None:
    op.drop_constraint("device_models_image_sha256_fkey", "device_models", schema="mdm", type_="foreignkey")
    op.drop_constraint(op.f("rollouts_sha256_fkey"), "rollouts", schema="mdm", type_="foreignkey")
    op.drop_constraint(op.f("firmware_images_pkey"), "firmware_images", schema="mdm", type_="primary")


def _create_keys(key: list[str], of_model: list[str], *, on_delete_of_image: str | None = None) -> None:
    for name, table, columns, ondelete in (
        ("device_models_image_sha256_fkey", "device_models", of_model, None),
        (op.f("rollouts_sha256_fkey"), "rollouts", key, on_delete_of_image),
    ):
        op.create_foreign_key(
            name,
            table,
            "firmware_images",
            columns,
            key,
            source_schema="mdm",
            referent_schema="mdm",
            ondelete=ondelete,
        )


def _set_stages(stages: str) -> None:
    name = op.f("firmware_deliveries_stage_check")
    op.drop_constraint(name, "firmware_deliveries", schema="mdm", type_="check")
    op.create_check_constraint(name, "firmware_deliveries", f"stage IN ({stages})", schema="mdm")
