"""Schemas that take an evil admin's time, or everybody's: the registry must go on answering devices.

More of them stand in tests/unit/registry/test_configuration.py.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from cli.client import AnswerError
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from shared.protocol import admin, messages, topics
from tests.raw import RawDevice

LONG: Final = f"{'a' * 60}!"
PATTERN: Final = r"^([a-zA-Z0-9-]+\.?)+$"
OLD_PATTERN: Final = rf"^(?!x){PATTERN[1:]}"
"""As the other, in a way that RE2 cannot express."""
DOUBLING: Final[dict[str, Any]] = {
    "$ref": "#/$defs/s0",
    "$defs": {f"s{step}": {"allOf": [{"$ref": f"#/$defs/s{step + 1}"}] * 2} for step in range(26)}
    | {"s26": {"type": "object"}},
}


async def asks_while(fleet: Fleet, asking: asyncio.Task[Any]) -> None:
    """Have a device ask for its configuration until the admin has an answer."""
    async with RawDevice(await fleet.device()) as device:
        number = 0
        while not asking.done():
            number += 1
            question = messages.ConfigGet(request_id=f"{number}")
            await device.ask(topics.CONFIG_GET, question, topics.CONFIG)


@pytest.mark.parametrize("dialect", ["http://json-schema.org/draft-07/schema#", None])
@pytest.mark.parametrize(
    ("schema", "defaults", "reason"),
    [
        ({"properties": {"a": {"pattern": PATTERN}}}, {"a": LONG}, r"^config_defaults\.a: 'a+!' does not match"),
        ({"propertyNames": {"pattern": PATTERN}}, {LONG: 1}, r"^config_defaults: 'a+!' does not match"),
        (
            {"patternProperties": {PATTERN: True}, "additionalProperties": False},
            {LONG: 1},
            r"^config_defaults: 'a+!'",
        ),
        (
            {"allOf": [{"patternProperties": {PATTERN: True}}], "maxProperties": 0},
            {LONG: 1},
            r"^config_defaults: ",
        ),
        ({"properties": {"a": {"pattern": OLD_PATTERN}}}, {}, r"^config_schema\.properties\.a\.pattern: .*RE2"),
        (DOUBLING, {}, r"^config_schema: its \$refs make it \d+ subschemas; at most 20000 are allowed"),
    ],
)
async def test_a_schema_that_would_take_for_ever_is_refused_or_quick(
    fleet: Fleet, schema: dict[str, Any], defaults: dict[str, Any], reason: str, dialect: str | None
) -> None:
    with pytest.raises(AnswerError, match=reason):
        await fleet.model(
            config_schema={**schema, **({"$schema": dialect} if dialect else {})}, config_defaults=defaults
        )


@pytest.mark.parametrize(
    ("schema", "overrides"),
    [({"properties": {"a": {"pattern": OLD_PATTERN}}}, {"a": LONG}), (DOUBLING, {"a": "b"})],
    ids=["pattern", "references"],
)
async def test_a_schema_of_before_the_rules_takes_nobodys_time_and_loses_no_device(
    fleet: Fleet, stack: Stack, schema: dict[str, Any], overrides: dict[str, Any]
) -> None:
    package = await fleet.device(model := await fleet.model())
    stored = json.dumps(schema)
    await run(stack, "UPDATE mdm.device_models SET config_schema = $1::jsonb WHERE code = $2", stored, model)
    setting = asyncio.create_task(fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides=overrides))
    await asks_while(fleet, setting)
    with pytest.raises(
        AnswerError, match=r"^config_schema: configuration must be checked within 3 s of processor time"
    ):
        await setting
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
    await fleet.ask(admin.MODEL_UPDATE, code=model, config_schema={})
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides=overrides)


async def test_a_model_of_before_the_rules_for_patterns_goes_on_working(fleet: Fleet, stack: Stack) -> None:
    package = await fleet.device(model := await fleet.model())
    stored = json.dumps({"properties": {"a": {"pattern": "^(?!x)"}}})
    await run(stack, "UPDATE mdm.device_models SET config_schema = $1::jsonb WHERE code = $2", stored, model)
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"a": "y"})
    await fleet.ask(admin.MODEL_UPDATE, code=model, config_defaults={"b": 1})
    with pytest.raises(AnswerError, match=r"^configuration\.a: 'xy' does not match"):
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"a": "xy"})
