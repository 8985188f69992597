"""`mdm command` and the commands of a model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cli import bars, commands
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

BATCH = UUID(int=7)
SENT = admin.CommandSent(
    batch_id=BATCH,
    expires_at=fakes.NOW + timedelta(seconds=60),
    commands=[admin.CommandRef(client_id=name, command_id=UUID(int=ord(name))) for name in "xyz"],
    skipped=["off"],
)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "POLL_S", 0)


@pytest.fixture(autouse=True)
def _devices(fake: fakes.FakeAdmin) -> None:
    """Three devices that are online, and a disabled one."""
    devices = [fakes.device(client_id=name) for name in "xyz"]
    fake.answers["registry.device.list"] = admin.Devices(devices=[*devices, fakes.device(enabled=False)])
    fake.answers["registry.device.show"] = lambda request: fakes.details(client_id=request.device)


def view(client_id: str, outcome: admin.CommandOutcome, **facts: object) -> admin.CommandView:
    usual: dict[str, object] = {
        "command_id": UUID(int=ord(client_id)),
        "batch_id": BATCH,
        "client_id": client_id,
        "name": "blink",
        "arguments": {"times": 3},
        "author": "alice",
        "created_at": fakes.NOW,
        "expires_at": SENT.expires_at,
        "outcome": outcome,
        "answered_at": None,
        "result": None,
        "error": None,
    }
    return admin.CommandView.model_validate({**usual, **facts})


def batches(*looks: list[admin.CommandView]) -> Callable[[admin.CommandShow], admin.CommandBatch]:
    """Answer each look with the next state of a batch, the last one again and again, a device a page."""
    left = list(looks)

    def answer(request: admin.CommandShow) -> admin.CommandBatch:
        views = left[0]
        if len(left) > 1:
            del left[0]
        counts = admin.CommandCounts(**Counter[str](it.outcome for it in views))
        after = request.after + 1
        page = views[request.after : after]
        return admin.CommandBatch(
            batch_id=BATCH, counts=counts, commands=page, next=after if after < len(views) else None
        )

    return answer


WAITING = [view("x", "ok"), view("y", "waiting"), view("z", "waiting")]
DONE = [view("x", "ok", result={"blinked": 3}), view("y", "ok"), view("z", "ok")]
MIXED = [view("x", "ok"), view("y", "failed", error="no lamp"), view("z", "expired")]


def test_send_waits_until_each_device_has_answered(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers |= {"registry.command.send": SENT, "registry.command.show": batches(WAITING, WAITING, DONE)}

    result = mdm("command", "send", "blink", "times=3", "--all", "--tag", "attic", "--yes")

    assert fake.sent("registry.command.send")[0].model_dump(exclude={"request_id"}) == {
        "device": None,
        "all": True,
        "tag": "attic",
        "model": None,
        "name": "blink",
        "arguments": {"times": 3},
        "expires_in_s": 60,
    }
    assert len(fake.sent("registry.command.show")) == 3 + len(DONE)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "DEVICE  OUTCOME  RESULT",
        'x       ok       {"blinked": 3}',
        "y       ok       -",
        "z       ok       -",
    ]
    assert "skipped disabled devices: off" in result.stderr
    assert str(BATCH) in result.stderr


@pytest.mark.parametrize("outcomes", [MIXED, [*DONE[:2], view("z", "expired")], [*DONE[:2], view("z", "failed")]])
def test_send_fails_when_a_device_failed_or_did_not_answer(
    fake: fakes.FakeAdmin, mdm: Run, outcomes: list[admin.CommandView]
) -> None:
    fake.answers |= {"registry.command.send": SENT, "registry.command.show": batches(WAITING, outcomes)}

    result = mdm("command", "send", "blink", "--tag", "attic", "--yes", "--json")

    assert result.exit_code == 1
    assert [it["outcome"] for it in json.loads(result.stdout)["commands"]] == [it.outcome for it in outcomes]


def test_send_with_no_wait_does_not_wait(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.command.send"] = SENT

    result = mdm("command", "send", "reboot", "--device", "x", "--no-wait")

    assert (result.exit_code, str(BATCH) in result.stdout) == (0, True)
    shown = json.loads(mdm("--json", "command", "send", "reboot", "--device", "x", "--no-wait").stdout)
    assert shown == SENT.model_dump(mode="json")


def test_the_bar_shows_how_many_have_answered(
    fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers |= {"registry.command.send": SENT, "registry.command.show": batches(WAITING, MIXED)}
    shown: list[object] = []
    real = bars.progress

    def watched(**options: Any) -> Any:  # noqa: ANN401
        bar = real(**options)
        monkeypatch.setattr(bar, "update", lambda _task, *, completed: shown.append(completed))
        return bar

    monkeypatch.setattr(bars, "progress", watched)

    mdm("command", "send", "blink", "--all", "--yes")

    assert shown == [1, 2]


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("5m", 300), ("2h", 7200), ("7d", 7 * 24 * 3600)])
def test_a_time_has_a_unit(fake: fakes.FakeAdmin, mdm: Run, text: str, seconds: int) -> None:
    fake.answers["registry.command.send"] = SENT

    assert mdm("command", "send", "reboot", "--all", "--expires", text, "--no-wait", "--yes").exit_code == 0

    (request,) = fake.sent("registry.command")
    assert request.model_dump(include={"expires_in_s"}) == {"expires_in_s": seconds}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("reboot",), "expected either --device, or at least one of --all, --tag and --model"),
        (
            ("reboot", "--device", "x", "--all"),
            "expected either --device, or at least one of --all, --tag and --model",
        ),
        (
            ("reboot", "--device", "x", "--tag", "a"),
            "expected either --device, or at least one of --all, --tag and --model",
        ),
        (("reboot", "--all", "--expires", "8d"), "--expires: "),
        (("reboot", "--all", "--expires", "0s"), "--expires: "),
        (("reboot", "--all", "--expires", "soon"), "--expires: must be a whole number with s, m, h or d"),
        (("reboot", "--all", "times"), "KEY=VALUE: expected a form such as"),
        (("Reboot now", "--all"), "NAME: "),
    ],
)
def test_a_command_that_breaks_a_rule_is_not_sent(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], reason: str
) -> None:
    result = mdm("command", "send", *words)

    assert (result.exit_code, fake.requests) == (2, [])
    assert reason in result.stderr


def test_what_goes_to_many_is_counted_and_asked_for(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.command.send"] = SENT

    refused = mdm("command", "send", "reboot", "--all", typed="n\n")
    unanswered = mdm("command", "send", "reboot", "--all")

    assert (refused.exit_code, unanswered.exit_code, fake.sent("registry.command")) == (2, 2, [])
    assert "send reboot to 3 devices? [y/N]" in refused.stderr
    assert "not answered; nothing was changed; --yes does it without a question" in unanswered.stderr
    assert mdm("command", "send", "reboot", "--all", "--no-wait", typed="y\n").exit_code == 0


def test_a_dry_run_shows_whom_it_would_reach_and_sends_nothing(fake: fakes.FakeAdmin, mdm: Run) -> None:
    shown = mdm("command", "send", "reboot", "--all", "--dry-run")
    of_one = mdm("command", "send", "reboot", "--device", "x", "--dry-run", "--json")

    assert (shown.exit_code, shown.stderr) == (0, "would send reboot to 3 devices\n")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["DEVICE", "x", "y", "z"]
    assert json.loads(of_one.stdout) == {"dry_run": "would send reboot to 1 device", "devices": ["x"]}
    assert fake.sent("registry.command") == []


def test_send_does_not_wait_for_devices_that_are_known_to_be_offline(fake: fakes.FakeAdmin, mdm: Run) -> None:
    devices = [fakes.device(client_id=name, online=name != "z") for name in "xyz"]
    fake.answers |= {
        "registry.device.list": admin.Devices(devices=devices),
        "registry.command.send": SENT,
        # At first z has answered, which came online meanwhile, and y has not.
        "registry.command.show": batches(
            [view("x", "ok"), view("y", "waiting"), view("z", "ok")],
            [view("x", "ok"), view("y", "waiting"), view("z", "ok")],
            [view("x", "ok"), view("y", "ok"), view("z", "waiting")],
        ),
    }

    result = mdm("command", "send", "blink", "--all", "--yes")

    assert [line.split()[1] for line in result.stdout.splitlines()[1:]] == ["ok", "ok", "waiting"]
    assert "1 of 3 devices are offline: the command stays queued, see `mdm command show" in result.stderr
    assert result.exit_code == 1


def test_a_filter_that_fits_no_device_is_an_error_with_what_may_be_meant(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def listed(request: admin.DeviceList) -> admin.Devices:
        return admin.Devices(devices=[] if request.tag or request.model else [fakes.device()])

    fake.answers |= {"registry.device.list": listed, "registry.model.list": admin.Models(models=[fakes.model()])}
    for words in (("command", "send", "reboot"), ("device", "list"), ("rotate",)):
        tagged, of_model = mdm(*words, "--tag", "atic"), mdm(*words, "--model", "tractor")
        assert tagged.stderr == "error: no device has the tag atic; did you mean attic?\n"
        assert of_model.stderr == "error: there is no model tractor; there are lamp; see `mdm model list`\n"
        assert (tagged.exit_code, of_model.exit_code) == (1, 1)


def test_show_has_all_pages(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.command.show"] = batches(MIXED)

    result = mdm("command", "show", str(BATCH))

    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["x", "ok", "-"],
        ["y", "failed", "no", "lamp"],
        ["z", "expired", "-"],
    ]
    assert result.exit_code == 0
    assert mdm("command", "show", "7").exit_code == 2


def test_list_shows_the_newest(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.command.list"] = admin.Commands(commands=MIXED)

    result = mdm("command", "list", "x", "--limit", "3")

    ((_, request),) = fake.requests
    assert request.model_dump(exclude={"request_id"}) == {"device": "x", "limit": 3}
    assert result.stdout.splitlines()[2].split()[:4] == ["y", "blink", '{"times":', "3}"]
    fake.answers["registry.command.list"] = admin.Commands(commands=[])
    assert "no commands yet" in mdm("command", "list").stderr


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("add", "lamp", "--chip", "esp32", "--command", "blink", "--command", "dim"), ["blink", "dim"]),
        (("change", "lamp", "--command", "blink"), ["blink"]),
        (("change", "lamp", "--no-commands"), []),
        (("change", "lamp", "--name", "Lamp"), None),
    ],
)
def test_a_model_lists_its_commands(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], sent: list[str] | None
) -> None:
    fake.answers |= {"registry.model.add": fakes.model(), "registry.model.update": fakes.model()}

    result = mdm("model", *words)

    ((_, request),) = fake.requests
    assert request.model_dump()["commands"] == sent
    assert "commands          blink" in result.stdout


def test_a_model_s_commands_are_replaced_or_removed_but_not_both(fake: fakes.FakeAdmin, mdm: Run) -> None:
    assert mdm("model", "change", "lamp", "--command", "blink", "--no-commands").exit_code == 2
    assert fake.requests == []
