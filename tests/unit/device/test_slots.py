from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from device.rotation import Slot, Slots
from device.slots import FILE_NAME, SlotStore, StateUnreadableError
from tests.unit.device.kit import Killed, Surroundings

FIRST = Slot(SecretStr("a" * 43), 1)
TRIAL = Slot(SecretStr("b" * 43), 2, uuid4())


def test_a_store_begins_with_the_package_and_keeps_what_came_after_it(tmp_path: Path) -> None:
    store = SlotStore(tmp_path / "new", FIRST)
    assert store.slots == Slots(FIRST)

    store.fill_second(TRIAL)
    assert SlotStore(tmp_path / "new", FIRST).slots == Slots(FIRST, TRIAL)

    store.promote()
    assert SlotStore(tmp_path / "new", FIRST).slots == Slots(TRIAL)


def test_only_the_owner_can_read_the_secrets(tmp_path: Path) -> None:
    SlotStore(tmp_path / "state", FIRST)

    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", ["before", "written", "after"])
@pytest.mark.parametrize("name", ["fill_second", "promote", "discard_second"])
def test_a_device_killed_at_any_point_finds_the_old_slots_or_the_new(tmp_path: Path, name: str, at: str) -> None:
    around = Surroundings()
    store = SlotStore(tmp_path, FIRST, fault=around.hooks.fault)
    if name != "fill_second":
        store.fill_second(TRIAL)
    before = store.slots
    after = {
        "fill_second": Slots(FIRST, TRIAL),
        "promote": Slots(TRIAL),
        "discard_second": Slots(FIRST),
    }[name]
    change = {
        "fill_second": lambda: store.fill_second(TRIAL),
        "promote": store.promote,
        "discard_second": store.discard_second,
    }[name]
    around.kill_at = f"slots.{name}:{at}"

    with pytest.raises(Killed):
        change()

    assert SlotStore(tmp_path, FIRST).slots == (after if at == "after" else before)


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"first": {"generation": 1}}')

    with pytest.raises(StateUnreadableError, match=r"first\.secret: is missing"):
        SlotStore(tmp_path, FIRST)
    assert (tmp_path / FILE_NAME).read_text() == '{"first": {"generation": 1}}'


def test_secrets_do_not_show() -> None:
    assert "aaa" not in repr(Slots(FIRST, TRIAL))
    assert "bbb" not in repr(Slots(FIRST, TRIAL))
