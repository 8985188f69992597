from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from device import image_builder
from device.flash import FILE_NAME, Flash
from device.slots import StateUnreadableError
from shared.errors import IllegalTransitionError
from shared.protocol.messages import FirmwareStage
from tests.unit.device.kit import Killed, Surroundings

OLD = image_builder.build(version="1.0.0", project="blink")
NEW = image_builder.build(version="1.1.0", project="blink")
NEW_SHA256 = hashlib.sha256(NEW).hexdigest()


def boot(folder: Path, around: Surroundings | None = None, *, boots_max: int = 3) -> Flash:
    around = around or Surroundings()
    return Flash(folder, first_image=lambda: OLD, boots_max=boots_max, fault=around.hooks.fault)


def activate(folder: Path, around: Surroundings | None = None) -> Flash:
    flash = boot(folder, around)
    flash.path_of(flash.inactive).write_bytes(NEW)
    flash.activate()
    return flash


def test_an_empty_flash_gets_the_first_image_once(tmp_path: Path) -> None:
    assert boot(tmp_path).running.version == "1.0.0"
    again = Flash(tmp_path, first_image=lambda: NEW)
    assert again.running.version == "1.0.0"
    assert again.running_sha256 == hashlib.sha256(OLD).hexdigest()


def test_a_new_image_runs_on_trial_after_the_next_boot(tmp_path: Path) -> None:
    assert activate(tmp_path).running.version == "1.0.0"

    flash = boot(tmp_path)
    assert (flash.running.version, flash.pending_verify) == ("1.1.0", True)
    with pytest.raises(IllegalTransitionError):
        flash.activate()

    flash.confirm()
    flash = boot(tmp_path)
    assert (flash.running.version, flash.pending_verify) == ("1.1.0", False)
    assert flash.outcome is not None
    assert flash.outcome.stage is FirmwareStage.CONFIRMED
    flash.clear_outcome()
    assert boot(tmp_path).outcome is None
    with pytest.raises(IllegalTransitionError):
        flash.roll_back("too late")


def test_a_rolled_back_image_is_refused_from_then_on(tmp_path: Path) -> None:
    activate(tmp_path)
    boot(tmp_path).roll_back("no network")

    flash = boot(tmp_path)
    assert (flash.running.version, flash.pending_verify) == ("1.0.0", False)
    assert flash.is_refused(NEW_SHA256)
    assert flash.outcome is not None
    assert (flash.outcome.sha256, flash.outcome.error) == (NEW_SHA256, "no network")


def test_an_image_that_never_gets_confirmed_is_rolled_back_by_the_bootloader(tmp_path: Path) -> None:
    activate(tmp_path)

    assert [boot(tmp_path, boots_max=2).running.version for _ in range(3)] == ["1.1.0", "1.1.0", "1.0.0"]
    assert boot(tmp_path).is_refused(NEW_SHA256)


@pytest.mark.parametrize("name", ["install", "begin", "boot", "activate", "confirm", "roll_back", "clear_outcome"])
@pytest.mark.parametrize("at", ["before", "written", "after"])
def test_a_device_killed_at_any_point_boots_a_whole_image(tmp_path: Path, name: str, at: str) -> None:
    around = Surroundings()
    around.kill_at = f"flash.{name}:{at}"

    def live() -> None:
        activate(tmp_path, around)
        flash = boot(tmp_path, around)
        flash.confirm() if name == "confirm" else flash.roll_back("no network")
        flash.clear_outcome()

    with pytest.raises(Killed):
        live()

    assert boot(tmp_path).running.version in {"1.0.0", "1.1.0"}


def test_a_foreign_record_is_refused(tmp_path: Path) -> None:
    boot(tmp_path)
    (tmp_path / FILE_NAME).write_text('{"active": 2}')

    with pytest.raises(StateUnreadableError, match="active"):
        boot(tmp_path)
