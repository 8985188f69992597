"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "admin_requests",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", "request_id", name=op.f("admin_requests_pkey")),
        schema="mdm",
    )
    op.create_index(
        op.f("admin_requests_answered_at_idx"), "admin_requests", ["answered_at"], unique=False, schema="mdm"
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_log_pkey")),
        schema="mdm",
    )
    op.create_index(op.f("audit_log_subject_idx"), "audit_log", ["subject"], unique=False, schema="mdm")
    op.create_table(
        "device_models",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("chip", sa.Text(), nullable=False),
        sa.Column("slot_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("config_schema", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("config_defaults", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("image_sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("code ~ '^[a-z0-9_]{1,50}$'", name=op.f("device_models_code_check")),
        sa.CheckConstraint("slot_size_bytes > 0", name=op.f("device_models_slot_size_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("device_models_pkey")),
        sa.UniqueConstraint("code", name=op.f("device_models_code_key")),
        schema="mdm",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("qos", sa.Integer(), nullable=False),
        sa.Column("retain", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
        schema="mdm",
    )
    op.create_index("outbox_service_id_idx", "outbox", ["service", "id"], unique=False, schema="mdm")
    op.create_table(
        "rotation_slots",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.CheckConstraint("slot >= 0", name=op.f("rotation_slots_slot_check")),
        sa.PrimaryKeyConstraint("slot", name=op.f("rotation_slots_pkey")),
        schema="mdm",
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("lifecycle", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("config_version", sa.BigInteger(), nullable=False),
        sa.Column("secret_generation", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_generation", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "secret_created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("rotation_state", sa.Text(), server_default=sa.text("'OK'"), nullable=False),
        sa.Column("rotation_slot", sa.Integer(), nullable=True),
        sa.Column("rotation_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(rotation_state = 'PENDING') = (rotation_slot IS NOT NULL)",
            name=op.f("devices_slot_when_pending_check"),
        ),
        sa.CheckConstraint(
            "(rotation_state = 'TIMEOUT') = (rotation_retry_at IS NOT NULL)",
            name=op.f("devices_retry_after_timeout_check"),
        ),
        sa.CheckConstraint("key ~ '^[a-z0-9]{8}$'", name=op.f("devices_key_check")),
        sa.CheckConstraint(
            "lifecycle IN ('CREATING', 'ACTIVE', 'REMOVING')", name=op.f("devices_lifecycle_check")
        ),
        sa.CheckConstraint(
            "rotation_state IN ('OK', 'QUEUED', 'PENDING', 'TIMEOUT')",
            name=op.f("devices_rotation_state_check"),
        ),
        sa.CheckConstraint(
            "1 <= secret_generation AND secret_generation <= last_generation",
            name=op.f("devices_generation_check"),
        ),
        sa.ForeignKeyConstraint(["model_id"], ["mdm.device_models.id"], name=op.f("devices_model_id_fkey")),
        sa.ForeignKeyConstraint(
            ["rotation_slot"], ["mdm.rotation_slots.slot"], name=op.f("devices_rotation_slot_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("devices_pkey")),
        sa.UniqueConstraint("key", name=op.f("devices_key_key")),
        sa.UniqueConstraint("request_id", name=op.f("devices_request_id_key")),
        sa.UniqueConstraint("rotation_slot", name=op.f("devices_rotation_slot_key")),
        schema="mdm",
    )
    op.create_index(op.f("devices_model_id_idx"), "devices", ["model_id"], unique=False, schema="mdm")
    op.create_index(
        "devices_rotation_due_idx",
        "devices",
        ["rotation_state", "secret_created_at"],
        unique=False,
        schema="mdm",
        postgresql_where=sa.text("rotation_state <> 'OK'"),
    )
    op.create_table(
        "firmware_images",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("chip", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("secure_version", sa.BigInteger(), nullable=False),
        sa.Column("idf_version", sa.Text(), nullable=False),
        sa.Column("elf_sha256", sa.Text(), nullable=False),
        sa.Column("uploaded_by", sa.Text(), nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("firmware_images_sha256_check")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["mdm.device_models.id"], name=op.f("firmware_images_model_id_fkey")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("firmware_images_pkey")),
        sa.UniqueConstraint("model_id", "version", name=op.f("firmware_images_model_id_version_key")),
        schema="mdm",
    )
    op.create_table(
        "firmware_uploads",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["mdm.device_models.id"], name=op.f("firmware_uploads_model_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("firmware_uploads_pkey")),
        sa.UniqueConstraint("model_id", "sha256", name=op.f("firmware_uploads_model_id_sha256_key")),
        schema="mdm",
    )
    op.create_table(
        "device_configs",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("overrides", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("document", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_configs_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "version", name=op.f("device_configs_pkey")),
        schema="mdm",
    )
    op.create_table(
        "device_presence",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("online", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("firmware_version", sa.Text(), nullable=True),
        sa.Column("firmware_sha256", sa.Text(), nullable=True),
        sa.Column("secret_generation", sa.BigInteger(), nullable=True),
        sa.Column("config_version", sa.BigInteger(), nullable=True),
        sa.Column("config_outcome", sa.Text(), nullable=True),
        sa.Column("config_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("device_presence_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("device_presence_pkey")),
        schema="mdm",
    )
    op.create_table(
        "firmware_deliveries",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "stage IN ('offered', 'downloading', 'verifying', 'rebooting', 'confirmed', 'failed', 'rolled_back')",
            name=op.f("firmware_deliveries_stage_check"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"],
            ["mdm.devices.id"],
            name=op.f("firmware_deliveries_device_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["sha256"], ["mdm.firmware_images.sha256"], name=op.f("firmware_deliveries_sha256_fkey")
        ),
        sa.PrimaryKeyConstraint("device_id", "sha256", name=op.f("firmware_deliveries_pkey")),
        schema="mdm",
    )
    op.create_table(
        "firmware_upload_chunks",
        sa.Column("upload_id", sa.UUID(), nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["mdm.firmware_uploads.id"],
            name=op.f("firmware_upload_chunks_upload_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("upload_id", "offset", name=op.f("firmware_upload_chunks_pkey")),
        schema="mdm",
    )
    op.create_table(
        "rotations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("old_generation", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("new_secret", sa.LargeBinary(), nullable=True),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True),
        sa.Column("refused_proofs", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("switched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("outcome IN ('DONE', 'TIMEOUT')", name=op.f("rotations_outcome_check")),
        sa.CheckConstraint(
            "step IN ('OFFERED', 'DELIVERED', 'STORED', 'SWITCHING', 'SWITCHED', 'RESTORING')",
            name=op.f("rotations_step_check"),
        ),
        sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name=op.f("rotations_ended_check")),
        sa.CheckConstraint(
            "num_nulls(new_secret, old_secret) = CASE WHEN outcome IS NULL THEN 0 ELSE 2 END",
            name=op.f("rotations_secrets_only_while_open_check"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["mdm.devices.id"], name=op.f("rotations_device_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("rotations_pkey")),
        sa.UniqueConstraint("device_id", "generation", name=op.f("rotations_device_id_generation_key")),
        schema="mdm",
    )
    op.create_index(
        "rotations_open_key",
        "rotations",
        ["device_id"],
        unique=True,
        schema="mdm",
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.create_foreign_key(
        "device_models_image_sha256_fkey",
        "device_models",
        "firmware_images",
        ["image_sha256"],
        ["sha256"],
        source_schema="mdm",
        referent_schema="mdm",
    )
    op.create_foreign_key(
        "devices_config_version_fkey",
        "devices",
        "device_configs",
        ["id", "config_version"],
        ["device_id", "version"],
        source_schema="mdm",
        referent_schema="mdm",
        deferrable=True,
        initially="DEFERRED",
    )
    # One slot: one device at a time. Each further row lets one more device rotate.
    op.execute("INSERT INTO mdm.rotation_slots (slot) VALUES (0)")
    op.execute(
        """
        CREATE FUNCTION mdm.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    )
    # The client id is made of both, and stands on devices, in Keycloak and in the broker.
    op.execute(
        """
        CREATE TRIGGER code_is_immutable BEFORE UPDATE OF code ON mdm.device_models FOR EACH ROW
        WHEN (OLD.code <> NEW.code) EXECUTE FUNCTION mdm.refuse('device_models.code can not be changed')
        """
    )
    op.execute(
        """
        CREATE TRIGGER identity_is_immutable BEFORE UPDATE OF key, model_id ON mdm.devices FOR EACH ROW
        WHEN (OLD.key <> NEW.key OR OLD.model_id <> NEW.model_id)
        EXECUTE FUNCTION mdm.refuse('devices.key and devices.model_id can not be changed')
        """
    )
    op.execute(
        """
        CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON mdm.audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION mdm.refuse('audit_log rows can only be added')
        """
    )


def downgrade() -> None:
    # Not the whole schema: Alembic's own table is in it too.
    op.execute(
        "DROP TABLE mdm.admin_requests, mdm.audit_log, mdm.device_configs, mdm.device_models, mdm.device_presence,"
        " mdm.devices, mdm.firmware_deliveries, mdm.firmware_images, mdm.firmware_upload_chunks,"
        " mdm.firmware_uploads, mdm.outbox, mdm.rotation_slots, mdm.rotations CASCADE"
    )
    op.execute("DROP FUNCTION mdm.refuse()")
