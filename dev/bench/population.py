"""Thousands of devices: rows inserted by SQL, and accounts written into the broker's file.

None of them is in Keycloak, which no benchmark needs: adding 2,000 clients would take longer than all benchmarks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from deploy import broker
from dev.stack import Stack
from shared.database import device_refs

MODEL: Final = "bench"
COUNT: Final = 2000
"""Number of devices with rows and accounts in all benchmarks."""
PASSWORD: Final = "bench-password-of-every-device"
DOCUMENT: Final[dict[str, Any]] = {
    "report_s": 60,
    "time_zone": "Europe/Berlin",
    "ntp": ["0.pool.ntp.org", "1.pool.ntp.org"],
    "sensor": {"kind": "bme280", "address": 118, "every_s": 30, "average": 5, "offset_c": -0.4},
    "relay": {"pin": 12, "inverted": False, "limits": {"on_c": 19.5, "off_c": 21.0}},
    "led": {"pin": 2, "brightness": 40, "colours": ["red", "green", "blue"]},
}
"""A typical configuration of about 400 bytes."""

_MODEL: Final = """
INSERT INTO mdm.device_models (code, name, chip, slot_size_bytes, config_defaults)
VALUES ($1, $1, 'esp32', 1048576, $2) ON CONFLICT DO NOTHING
"""
_DEVICES: Final = """
WITH made AS (
    INSERT INTO mdm.devices (key, model_id, name, tags, lifecycle, request_id, config_version)
    SELECT lpad(to_hex(number), 8, '0'), model.id, 'device ' || number,
           ARRAY['all', 'room-' || number % 1000], 'ACTIVE', 'bench-' || number, 1
    FROM mdm.device_models model, generate_series($2::int, $3::int - 1) number WHERE model.code = $1
    ON CONFLICT DO NOTHING
    RETURNING id
), configured AS (
    INSERT INTO mdm.device_configs (device_id, version, overrides, document, author, outcome, reported_at)
    SELECT id, 1, '{}', $4, 'bench', CASE WHEN id % 100 = 0 THEN 'rejected' ELSE 'applied' END, now() FROM made
)
INSERT INTO mdm.device_presence (device_id, config_version, config_outcome, last_seen_at)
SELECT id, 1, CASE WHEN id % 100 = 0 THEN 'rejected' ELSE 'applied' END, CASE WHEN id % 100 = 0 THEN now() END
FROM made
"""
"""One device in a hundred drifts; each tag such as `room-7` is on one in a thousand."""


@dataclass(frozen=True, slots=True)
class PopulationDevice:
    """A device of the population."""

    number: int

    @property
    def client_id(self) -> str:
        """The client id."""
        return device_refs.client_id(MODEL, f"{self.number:08x}")


async def insert(database_url: str, start: int, stop: int) -> None:
    """Insert the rows of the devices with these numbers."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        await connection.execute(_MODEL, MODEL, "{}")
        await connection.execute(_DEVICES, MODEL, start, stop, json.dumps(DOCUMENT))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def write_accounts(stack: Stack, count: int) -> None:
    """Add accounts of the first devices to the broker, which is stopped meanwhile."""
    stack.broker.stop()
    file = stack.folder / "mosquitto/data/dynamic-security.json"
    document = json.loads(file.read_text())
    # All have the same password and hash, which does not change the cost of a login.
    account = broker.account("", PASSWORD)
    members = [{"username": PopulationDevice(number).client_id} for number in range(count)]
    document["clients"] += [account | member | {"clientid": member["username"]} for member in members]
    [group] = [group for group in document["groups"] if group["groupname"] == broker.DEVICE_GROUP]
    group["clients"] += members
    broker.replace(file, json.dumps(document), mode=0o600)
    stack.broker.start()
