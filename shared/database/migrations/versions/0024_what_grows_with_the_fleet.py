"""What grows with the fleet: the next comparison, devices whose configuration drifts, and old rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_DRIFTS = (
    "last_seen_at IS NOT NULL AND "
    "NOT coalesce(config_version = desired_version AND config_outcome = 'applied', false)"
)
_TRIGGERS = (
    """
    CREATE FUNCTION mdm.take_desired_version() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.desired_version := (SELECT config_version FROM mdm.devices WHERE id = NEW.device_id);
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER takes_desired_version BEFORE INSERT ON mdm.device_presence
    FOR EACH ROW EXECUTE FUNCTION mdm.take_desired_version()
    """,
    """
    CREATE FUNCTION mdm.give_desired_version() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE mdm.device_presence SET desired_version = NEW.config_version WHERE device_id = NEW.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER gives_desired_version AFTER UPDATE OF config_version ON mdm.devices
    FOR EACH ROW WHEN (OLD.config_version <> NEW.config_version) EXECUTE FUNCTION mdm.give_desired_version()
    """,
)


def upgrade() -> None:
    op.add_column(
        "instance",
        sa.Column("compare_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        schema="mdm",
    )
    op.add_column("device_presence", sa.Column("desired_version", sa.BigInteger(), nullable=True), schema="mdm")
    for statement in _TRIGGERS:
        op.execute(statement)
    op.execute(
        "UPDATE mdm.device_presence SET desired_version = devices.config_version FROM mdm.devices "
        "WHERE devices.id = device_presence.device_id"
    )
    op.add_column(
        "device_presence",
        sa.Column("drifts", sa.Boolean(), sa.Computed(_DRIFTS, persisted=True), nullable=False),
        schema="mdm",
    )
    op.create_index(
        op.f("device_presence_drifts_idx"),
        "device_presence",
        ["device_id"],
        schema="mdm",
        postgresql_where=sa.text("drifts"),
    )
    op.create_index(
        op.f("device_configs_by_device_idx"),
        "device_configs",
        ["device_id"],
        schema="mdm",
        postgresql_where=sa.text("author LIKE 'iotdevice-%'"),
    )
    op.create_index(
        op.f("rotations_ended_at_idx"), "rotations", ["ended_at"], schema="mdm", postgresql_using="brin"
    )


def downgrade() -> None:
    op.drop_index(op.f("rotations_ended_at_idx"), table_name="rotations", schema="mdm")
    op.drop_index(op.f("device_configs_by_device_idx"), table_name="device_configs", schema="mdm")
    op.drop_index(op.f("device_presence_drifts_idx"), table_name="device_presence", schema="mdm")
    op.drop_column("device_presence", "drifts", schema="mdm")
    op.execute("DROP TRIGGER gives_desired_version ON mdm.devices")
    op.execute("DROP TRIGGER takes_desired_version ON mdm.device_presence")
    op.execute("DROP FUNCTION mdm.give_desired_version()")
    op.execute("DROP FUNCTION mdm.take_desired_version()")
    op.drop_column("device_presence", "desired_version", schema="mdm")
    op.drop_column("instance", "compare_at", schema="mdm")
