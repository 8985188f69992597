"""Many devices that are rows in the database and nothing else, for the page to show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dev.database import run
from dev.stack import Stack

_ADD = """
WITH made AS (
  INSERT INTO mdm.devices (key, model_id, name, tags, lifecycle, request_id, config_version)
  SELECT 'z' || lpad(n::text, 7, '0'), m.id, 'crowd-' || n, ARRAY['crowd'], 'ACTIVE', 'crowd-' || n, 1
  FROM generate_series(1, $2::int) AS n, mdm.device_models AS m WHERE m.code = $1
  RETURNING id
), configured AS (
  INSERT INTO mdm.device_configs (device_id, version, overrides, document, author)
  SELECT id, 1, '{}', '{}', 'crowd' FROM made
)
INSERT INTO mdm.device_presence (device_id, firmware_version) SELECT id, '1.' || (id % 5) FROM made
"""
_REMOVE = "DELETE FROM mdm.devices WHERE request_id LIKE 'crowd-%'"


@asynccontextmanager
async def crowd(stack: Stack, model: str, count: int) -> AsyncIterator[list[str]]:
    """Have so many devices of a model until the block ends; yield their client ids."""
    await run(stack, _ADD, model, count)
    try:
        yield [f"iotdevice-{model}-z{number:07}" for number in range(1, count + 1)]
    finally:
        await run(stack, _REMOVE)
