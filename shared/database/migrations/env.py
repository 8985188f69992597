"""Run the schema's history against MDM_DATABASE_URL, or against the URL that the caller sets."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.database import grants
from shared.database.tables import SCHEMA, Base


def _run(connection: Connection) -> None:
    # Two that start at once must not both make the schema.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('mdm:migrations'))"))
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
    )
    with context.begin_transaction():
        context.run_migrations()
    if context.config.attributes.get("grants"):
        grants.apply(connection)
    connection.commit()


async def _main(url: str) -> None:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


asyncio.run(_main(context.config.attributes["url"]))
