"""The vitals of an hour as an array of numbers below a line of names, in half the space; means instead of sums."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# Rows are written anew in the order of time, as they were: an update would leave the space of the old ones.
_KEEP = "CREATE TABLE mdm.device_vitals_kept AS SELECT device_id, hour, version, {columns} FROM mdm.device_vitals"
_PUT_BACK = "INSERT INTO mdm.device_vitals SELECT * FROM mdm.device_vitals_kept ORDER BY hour, device_id"
# A double that is too small for a real is an error to PostgreSQL; the third number was a sum.
_ARRAYS = """
    (SELECT string_agg(key, ' ' ORDER BY key) FROM jsonb_each(vitals)),
    (
        SELECT array_agg((CASE WHEN abs(number) < 1e-37 THEN 0 ELSE number END)::real ORDER BY key, place)
        FROM jsonb_each(vitals),
            jsonb_array_elements_text(value) WITH ORDINALITY AS stored(digits, place),
            LATERAL (SELECT digits::float8 / CASE place WHEN 3 THEN (value->>0)::float8 ELSE 1 END) AS it(number)
    )
"""
_DOCUMENTS = """
    (
        SELECT jsonb_object_agg(name, jsonb_build_array(
            numbers[place * 6 - 5], numbers[place * 6 - 4],
            numbers[place * 6 - 3]::float8 * numbers[place * 6 - 5],
            numbers[place * 6 - 2], numbers[place * 6 - 1], numbers[place * 6]
        ))
        FROM unnest(string_to_array(names, ' ')) WITH ORDINALITY AS stored(name, place)
    )
"""


def upgrade() -> None:
    op.execute(_KEEP.format(columns=_ARRAYS))
    op.execute("TRUNCATE mdm.device_vitals")
    op.drop_column("device_vitals", "vitals", schema="mdm")
    op.add_column("device_vitals", sa.Column("names", sa.Text(), nullable=False), schema="mdm")
    op.add_column("device_vitals", sa.Column("numbers", sa.ARRAY(sa.REAL()), nullable=False), schema="mdm")
    op.execute(_PUT_BACK)
    op.drop_table("device_vitals_kept", schema="mdm")
    op.execute("ANALYZE mdm.device_vitals")


def downgrade() -> None:
    op.execute(_KEEP.format(columns=_DOCUMENTS))
    op.execute("TRUNCATE mdm.device_vitals")
    op.drop_column("device_vitals", "numbers", schema="mdm")
    op.drop_column("device_vitals", "names", schema="mdm")
    document = postgresql.JSONB(astext_type=sa.Text(), none_as_null=True)
    op.add_column("device_vitals", sa.Column("vitals", document, nullable=False), schema="mdm")
    op.execute(_PUT_BACK)
    op.drop_table("device_vitals_kept", schema="mdm")
