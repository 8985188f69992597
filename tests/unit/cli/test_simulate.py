"""Failure modes and counts of simulated devices, and validation of options."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cli.simulate import failure_modes, runner, screen
from cli.simulate.tally import FailureMode, Tally
from shared.errors import InvalidInputError
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import FakeAdmin

NAMES = [f"iotdevice-lamp-{number:04}" for number in range(1000)]


def test_each_kind_has_its_share_and_the_same_devices_each_time() -> None:
    percents = {
        FailureMode.SILENT: 1.0,
        FailureMode.SLOW: 2.5,
        FailureMode.ROLLED_BACK: 0.0,
        FailureMode.WRONG_PROOF: 50.0,
    }
    failing = failure_modes.assign(NAMES, percents)
    assert Counter(failing.values()) == {
        FailureMode.SILENT: 10,
        FailureMode.SLOW: 25,
        FailureMode.WRONG_PROOF: 500,
    }
    assert failure_modes.assign(NAMES[::-1], percents) == failing


def test_a_share_that_is_less_than_one_device_is_one_device() -> None:
    assert list(failure_modes.assign(NAMES[:5], {FailureMode.SILENT: 1.0}).values()) == [FailureMode.SILENT]
    assert failure_modes.assign(NAMES[:5], {FailureMode.SILENT: 0.0}) == {}


def test_the_share_that_sleeps_is_the_same_each_time() -> None:
    sleepers = failure_modes.sleepers(NAMES, 50.0)
    assert len(set(sleepers)) == 500
    assert failure_modes.sleepers(NAMES[::-1], 50.0) == sleepers
    assert len(failure_modes.sleepers(NAMES[:5], 1.0)) == 1
    assert failure_modes.sleepers(NAMES, 0.0) == []


def test_all_devices_may_fail() -> None:
    assert set(failure_modes.assign(NAMES, {FailureMode.SILENT: 40.0, FailureMode.SLOW: 60.0})) == set(NAMES)


@pytest.mark.parametrize("text", ["1", "-1%", "101%", "1.%", "1 %", "", "many%", "٣%"])
def test_what_is_no_share_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"silent: must be a percentage from 0% to 100%"):
        failure_modes.percent(text, field="silent")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "--devices: expected either --devices or --remove"),
        (["--devices", "3", "--remove"], "--devices: expected either --devices or --remove"),
        (["--devices", "0"], "--devices: must be at least 1"),
        (["--devices", "3", "--wrong-proof", "x"], "--wrong-proof: must be a percentage"),
        (
            ["--devices", "3", "--silent", "60%", "--rolled-back", "40.5%"],
            "--silent, --rolled-back: must be at most 100% in total, are 100.5%",
        ),
        (["--devices", "3", "--per-second", "0"], "--per-second: must be at least 0.1"),
        (["--devices", "3", "--minutes", "0"], "--minutes: must be at least 0.01"),
    ],
)
def test_invalid_options_are_refused_before_any_request(
    mdm: Run, fake: FakeAdmin, words: list[str], reason: str
) -> None:
    ran = mdm("simulate", *words)
    assert ran.exit_code == 2
    assert reason in ran.stderr
    assert fake.requests == []


def test_devices_are_not_removed_without_a_yes(mdm: Run, fake: FakeAdmin, tmp_path: Path) -> None:
    ran = mdm("simulate", "--remove", "--state", str(tmp_path))
    assert (ran.exit_code, fake.requests) == (1, []) or (ran.exit_code, fake.requests) == (2, [])


def test_more_devices_than_open_files_are_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidInputError, match=r"devices: 1000000000 need \d+ open files.*ulimit -Hn"):
        runner.allow_files(1_000_000_000)


def test_a_device_counts_where_it_stands_and_a_failure_each_time() -> None:
    tally = Tally({"a": FailureMode.SILENT, "b": FailureMode.ROLLED_BACK}, 3)
    for client_id, event, facts in (
        ("a", "device.booted", {"version": "1.0.0", "config_version": None}),
        ("b", "device.booted", {"version": "1.1.0", "config_version": 4}),
        ("c", "device.booted", {"version": "1.1.0", "config_version": None}),
        ("a", "login.accepted", {}),
        ("b", "login.accepted", {}),
        ("b", "link.lost", {}),
        ("c", "login.accepted", {}),
        ("c", "config.applied", {}),
        ("c", "config.applied", {}),
        ("c", "rotation.promoted", {}),
        ("a", "message.unheard", {}),
        ("a", "message.unheard", {}),
        ("a", "device.asleep", {}),
        ("c", "device.asleep", {}),
        ("c", "login.accepted", {}),
    ):
        tally.record(client_id, event, facts)
    assert screen.line(tally) == (
        "devices 3  connected 2  asleep 1  configured 2  rotations 1  commands 0  firmware 1.0.0 1  "
        "firmware 1.1.0 2  silent 1/2  rolled back 1/0"
    )
    assert tally.facts() == {
        "devices": 3,
        "connected": 2,
        "asleep": 1,
        "configured": 2,
        "rotations": 1,
        "commands": 0,
        "firmware": {"1.0.0": 1, "1.1.0": 2},
        "failures": {"silent": {"devices": 1, "times": 2}, "rolled back": {"devices": 1, "times": 0}},
        "broken": {},
    }
