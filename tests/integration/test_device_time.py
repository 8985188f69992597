"""A device's own clock decides nothing: it may be wrong by any amount."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import JsonValue

from dev.fleet import Fleet
from dev.uploads import build, upload
from device.options import Done, Hooks
from shared.protocol import admin, messages, topics
from tests.downloads import check
from tests.raw import RawDevice

NEVER_SET = datetime(1970, 1, 1, tzinfo=UTC)
CLOCKS = {
    "ten minutes ahead": timedelta(minutes=10),
    "ten minutes behind": timedelta(minutes=-10),
    "a year ahead": timedelta(days=365),
    "a year behind": timedelta(days=-365),
    "never set": None,
}


def wrong_clock(off: timedelta | None, done: list[object]) -> Hooks:
    def blink(arguments: dict[str, JsonValue]) -> Done:
        done.append(arguments)
        return Done()

    return Hooks(now=lambda: NEVER_SET if off is None else datetime.now(UTC) + off, commands={"blink": blink})


@pytest.mark.parametrize("off", CLOCKS.values(), ids=CLOCKS)
async def test_a_device_with_a_wrong_clock_is_rotated_and_takes_commands(
    fleet: Fleet, off: timedelta | None
) -> None:
    model = await fleet.model(commands=["blink"])
    package = await fleet.device(model)
    done: list[object] = []
    async with fleet.powered(package, hooks=wrong_clock(off, done)):
        await fleet.until(package, lambda view: view.online)
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/completed", generation=2)
        sent = await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="blink", expires_in_s=60)
        answered = await fleet.seen(package, "command/answered", batch_id=str(sent.batch_id))
        assert answered.data["ok"]
    assert done == [{}]


async def test_what_carries_time_has_the_servers(fleet: Fleet) -> None:
    def is_now(message: messages.Config | messages.FirmwareOffer) -> bool:
        age = datetime.now(UTC) - (message.time or NEVER_SET)
        return timedelta(0) <= age < timedelta(seconds=60)

    model = await fleet.model()
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        request = messages.ConfigGet(request_id="1")
        config = await device.ask(topics.CONFIG_GET, request, topics.CONFIG)
        assert is_now(config)
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"led": 1})
        while (pushed := await device.receive(topics.CONFIG)).request_id is not None:
            pass  # the question was repeated before its answer had come
        assert is_now(pushed)
        offer = await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)
        assert offer.up_to_date
        assert is_now(offer)
        await upload(fleet, model, build(model, "2.0.0"))
        offer = await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)
        assert is_now(offer)
