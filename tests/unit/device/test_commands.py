"""Commands of the reference device: done at most once, answered until the broker has it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import JsonValue

from device.commands import FILE_NAME, CommandRunner, CommandStore
from device.options import Done
from device.slots import StateUnreadableError
from device.uplink import Ending
from shared.protocol import messages, topics
from tests.unit.device.kit import EPOCH, Killed, Surroundings, same

KEPT = 3


def boot(folder: Path, around: Surroundings) -> CommandRunner:
    commands = CommandRunner(
        CommandStore(folder, kept=KEPT, fault=around.hooks.fault), around.uplink, around.server_clock
    )
    commands.on_connected()
    return commands


def command(number: int = 1, name: str = "count", **arguments: JsonValue) -> messages.Command:
    expires_at = EPOCH + timedelta(seconds=60)
    return messages.Command(command_id=UUID(int=number), name=name, arguments=arguments, expires_at=expires_at)


def counting(done: Done | None = None) -> tuple[Surroundings, list[dict[str, JsonValue]]]:
    """Surroundings with a command `count`, and the arguments with which it was done."""
    around, calls = Surroundings(), list[dict[str, JsonValue]]()

    def count(arguments: dict[str, JsonValue]) -> Done:
        calls.append(arguments)
        return done or Done(result={"calls": len(calls)})

    around.uplink.hooks = replace(around.hooks, commands={"count": count})
    return around, calls


def results(around: Surroundings) -> list[messages.CommandResult]:
    found: list[messages.CommandResult] = around.take(topics.COMMAND_RESULT)
    return found


def test_a_command_is_done_once_and_answered_as_often_as_it_comes(tmp_path: Path) -> None:
    around, calls = counting()
    commands = boot(tmp_path, around)

    for _ in range(3):
        commands.on_command(command(a=1))

    first = messages.CommandResult(command_id=UUID(int=1), ok=True, result={"calls": 1})
    assert results(around) == [first] * 3
    around.time_s = 61
    boot(tmp_path, around).on_command(command(a=1))
    assert results(around) == [first]
    assert calls == [{"a": 1}]


def test_a_command_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    around, _ = counting(Done(error="no\nlamp"))

    boot(tmp_path, around).on_command(command())

    (result,) = results(around)
    assert same(result, ok=False, error="no lamp", result=None)


@pytest.mark.parametrize(
    ("number", "name", "after_s", "error"),
    [
        (1, "count", 60, "expired"),
        (1, "dance", 0, "unknown command; this firmware knows count, identify, reboot"),
        (1, "dance", 60, "expired"),
    ],
)
def test_a_command_that_is_unknown_or_too_late_is_not_done(
    tmp_path: Path, number: int, name: str, after_s: float, error: str
) -> None:
    around, calls = counting()
    commands = boot(tmp_path, around)
    around.time_s = after_s

    commands.on_command(command(number, name))

    (result,) = results(around)
    assert same(result, ok=False, error=error)
    assert calls == []


def test_identify_is_visible(tmp_path: Path) -> None:
    around = Surroundings()

    boot(tmp_path, around).on_command(command(name="identify"))

    assert "device.identified" in around.names()
    (result,) = results(around)
    assert result.ok


def test_a_reboot_waits_until_the_broker_has_the_answer(tmp_path: Path) -> None:
    around = Surroundings()
    commands = boot(tmp_path, around)

    endings = []
    commands.on_command(command(name="reboot"))
    endings.append(around.uplink.ending)
    around.uplink.reset()  # the connection broke before
    commands.on_connected()
    endings.append(around.uplink.ending)
    (result,) = results(around)
    endings.append(around.uplink.ending)

    assert result.ok
    assert endings == [None, None, Ending.REBOOT]


def test_after_a_reboot_the_same_command_is_answered_and_does_not_reboot_again(tmp_path: Path) -> None:
    around = Surroundings()
    boot(tmp_path, around).on_command(command(name="reboot"))
    (first,) = results(around)

    around = Surroundings()
    commands = boot(tmp_path, around)
    assert results(around) == []
    commands.on_command(command(name="reboot"))

    assert results(around) == [first]
    assert around.uplink.ending is None


@pytest.mark.parametrize("at", ["before", "written", "after"])
@pytest.mark.parametrize("point", ["command.begin", "command.finish"])
def test_a_device_killed_in_a_command_does_it_at_most_once_and_answers(
    tmp_path: Path, point: str, at: str
) -> None:
    around, calls = counting()
    commands = boot(tmp_path, around)
    around.kill_at = f"{point}:{at}"
    with pytest.raises(Killed):
        commands.on_command(command())

    around, again = counting()
    commands = boot(tmp_path, around)
    said = results(around)
    commands.on_command(command())
    said += results(around)

    assert len(calls) + len(again) == (0 if (point, at) == ("command.begin", "after") else 1)
    assert {(it.ok, it.error) for it in said} == {
        (False, "cut off by a restart")
        if (point, at) in {("command.begin", "after"), ("command.finish", "before"), ("command.finish", "written")}
        else (True, None)
    }


@pytest.mark.parametrize(
    ("point", "is_said_again"),
    [
        ("publish.command.result:before", True),
        ("publish.command.result:after", True),
        ("command.said:written", True),
        ("command.said:after", False),
    ],
)
def test_a_result_is_said_on_the_next_connection_unless_the_broker_is_known_to_have_it(
    tmp_path: Path, point: str, is_said_again: bool
) -> None:
    around, _ = counting()
    boot(tmp_path, around).on_command(command())
    around.kill_at = point
    with pytest.raises(Killed):
        around.flush()

    around, calls = counting()
    boot(tmp_path, around)

    assert [it.result for it in results(around)] == [{"calls": 1}] * is_said_again
    assert calls == []


def test_only_the_last_commands_are_remembered(tmp_path: Path) -> None:
    around, _ = counting()
    commands = boot(tmp_path, around)
    for number in range(KEPT + 1):
        commands.on_command(command(number))
    around.flush()

    store = CommandStore(tmp_path, kept=KEPT)
    assert [store.result(UUID(int=number)) is not None for number in range(KEPT + 1)] == [False, *[True] * KEPT]
    commands.on_command(command(KEPT))  # remembered: answered, and nothing forgotten for it
    assert CommandStore(tmp_path, kept=KEPT).result(UUID(int=1)) is not None


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[]")

    with pytest.raises(StateUnreadableError):
        CommandStore(tmp_path, kept=KEPT)
