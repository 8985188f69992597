"""Core dumps in pieces, encrypted, and the lines of devices' logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "core_dumps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("elf_sha256", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("firmware_version", sa.Text(), nullable=True),
        sa.Column("data_key", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("core_dumps_sha256_check")),
        sa.CheckConstraint("size_bytes > 0", name=op.f("core_dumps_size_bytes_check")),
        sa.CheckConstraint(
            "stored_at IS NULL OR refused IS NULL", name=op.f("core_dumps_stored_or_refused_check")
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("core_dumps_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("core_dumps_pkey")),
        sa.UniqueConstraint("device_id", "sha256", name=op.f("core_dumps_device_id_sha256_key")),
        schema="mdm",
    )
    op.create_table(
        "core_dump_chunks",
        sa.Column("dump_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dump_id"], ["mdm.core_dumps.id"], name=op.f("core_dump_chunks_dump_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dump_id", "offset", name=op.f("core_dump_chunks_pkey")),
        schema="mdm",
    )
    op.create_table(
        "device_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("uptime_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("level IN ('debug', 'info', 'warning', 'error')", name=op.f("device_log_level_check")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_log_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("device_log_pkey")),
        sa.UniqueConstraint("device_id", "boot", "number", name=op.f("device_log_device_id_boot_number_key")),
        schema="mdm",
    )
    op.create_index("device_log_device_id_id_idx", "device_log", ["device_id", "id"], schema="mdm")
    op.create_index(op.f("device_log_received_at_idx"), "device_log", ["received_at"], schema="mdm")


def downgrade() -> None:
    op.drop_table("device_log", schema="mdm")
    op.drop_table("core_dump_chunks", schema="mdm")
    op.drop_table("core_dumps", schema="mdm")
