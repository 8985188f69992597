"""Places of a model's schema that are writeOnly, and messages that wait encrypted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "device_models",
        sa.Column("sealed", postgresql.JSONB(none_as_null=True), server_default=sa.text("'[]'"), nullable=True),
        schema="mdm",
    )
    # Until now the keyword was allowed and had no effect: the registry seals these at its start, as it has the keys.
    op.execute("UPDATE mdm.device_models SET sealed = NULL WHERE config_schema::text LIKE '%\"writeOnly\": true%'")
    op.add_column(
        "outbox",
        sa.Column("sealed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="mdm",
    )


def downgrade() -> None:
    # Services from before would send the ciphertexts to the devices.
    for table, column in (
        ("device_models", "config_defaults"),
        ("config_layers", "document"),
        ("device_configs", "overrides"),
        ("device_configs", "document"),
    ):
        op.execute(
            f"DO $$ BEGIN IF EXISTS (SELECT FROM mdm.{table} WHERE {column}::text LIKE '%\"(sealed %') THEN"
            f" RAISE 'mdm.{table}.{column} has sealed settings; set or remove them first'; END IF; END $$"
        )
    op.drop_column("outbox", "sealed", schema="mdm")
    op.drop_column("device_models", "sealed", schema="mdm")
