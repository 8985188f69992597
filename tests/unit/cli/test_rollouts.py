import json

import pytest

from cli import rollouts
from cli.client import AnswerError
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run


def status(**facts: object) -> admin.RolloutStatus:
    """Return a rollout; what is given replaces what is usual."""
    usual: dict[str, object] = {
        "rollout": 7,
        "model": "lamp",
        "version": "1.2.3",
        "tags": [],
        "percent": 100,
        "state": "RUNNING",
        "reason": None,
        "wave": 1,
        "waves": 2,
        "author": "admin",
        "created_at": fakes.NOW,
        "ended_at": None,
        "plan": {},
        "doing": "wave 1: 0 of 1 needed devices have confirmed",
        "counts": [
            {"wave": 0, "devices": 3, "counts": {"confirmed": 3}},
            {"wave": 1, "devices": 2, "counts": {"offered": 1, "silent": 1}},
        ],
        "failure_count": 1,
        "failures": [
            {
                "client_id": "iotdevice-lamp-abcd1234",
                "wave": 1,
                "state": "SILENT",
                "reason": "has not confirmed",
                "at": fakes.NOW,
                "forgiven": False,
            }
        ],
    }
    return admin.RolloutStatus.model_validate({**usual, **facts})


def sent(fake: fakes.FakeAdmin) -> list[dict[str, object]]:
    return [request.model_dump(exclude={"request_id"}, exclude_defaults=True) for _, request in fake.requests]


def test_a_start_without_options_is_the_safe_one(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["firmware.rollout.start"] = status()
    result = mdm("rollout", "start", "lamp", "1.2.3")
    assert result.exit_code == 0
    assert sent(fake) == [{"model": "lamp", "version": "1.2.3"}]
    plan = admin.RolloutPlan()
    assert (plan.waves, plan.success_percent, plan.failure_limit) == (["1", "10%", "50%", "100%"], 95, "5%")


def test_a_start_sends_each_option(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["firmware.rollout.start"] = status()
    options = "--tag a --tag b --percent 20 --waves 2,50% --success 90% --failure-limit 3 --soak 1h --silence 20m"
    more = "--window 02:00-05:00 --zone Europe/Berlin --at-once 5 --per-minute 7 --skip"
    mdm("rollout", "start", "lamp", "1.2.3", *options.split(), *more.split())
    assert sent(fake) == [
        {
            "model": "lamp",
            "version": "1.2.3",
            "tags": ["a", "b"],
            "percent": 20,
            "skip": True,
            "plan": {
                "waves": ["2", "50%"],
                "success_percent": 90,
                "failure_limit": "3",
                "soak_s": 3600,
                "silence_s": 1200,
                "window": "02:00-05:00",
                "zone": "Europe/Berlin",
                "max_under_way": 5,
                "offers_per_minute": 7,
            },
        }
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--success", "most"], "success: must be a whole percentage"),
        (["--soak", "1"], "soak: must be a whole number with s, m, h or d"),
        (["--waves", "1,0%"], "--waves: each must be at least 1 or 1%"),
        (["--window", "2-5"], "--window: must be two different times of day"),
        (["--zone", "Mars"], "--zone: must be the IANA name"),
        (["--skip", "--force"], "expected either --skip or --force"),
        (["--percent", "0"], "percent: must be at least 1"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_sent(
    fake: fakes.FakeAdmin, mdm: Run, options: list[str], reason: str
) -> None:
    result = mdm("rollout", "start", "lamp", "1.2.3", *options)
    assert (result.exit_code, fake.requests) == (2, [])
    assert reason in result.stderr


@pytest.mark.parametrize(("count", "exit_code"), [(0, 0), (2, 1)])
def test_a_preflight_fails_if_a_device_would(fake: fakes.FakeAdmin, mdm: Run, count: int, exit_code: int) -> None:
    problem = admin.RolloutProblem(client_id="b", name="", reason="is disabled", refuses=True)
    problems = [problem] * min(count, 1)
    fake.answers["firmware.rollout.preflight"] = fakes.findings(count=count, refusing=count, problems=problems)
    result = mdm("rollout", "preflight", "lamp", "1.2.3", "--tag", "x")
    assert result.exit_code == exit_code
    assert ("is disabled" in result.stdout, result.stderr) == (bool(count), "and 1 more\n" if count else "")
    assert sent(fake) == [{"model": "lamp", "version": "1.2.3", "tags": ["x"]}]


def test_the_status_names_the_failures_of_the_newest_rollout(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["firmware.rollout.status"] = status(failure_count=1001)
    result = mdm("rollout", "status")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["before", "3", "0", "0", "3", "0", "0", "0", "0"] in lines
    assert ["1", "2", "0", "1", "0", "0", "0", "1", "0"] in lines
    assert "iotdevice-lamp-abcd1234" in result.stdout
    assert (result.stderr, sent(fake)) == ("and 1000 more\n", [{}])


@pytest.mark.parametrize(("state", "exit_code"), [("COMPLETED", 0), ("HALTED", 1), ("ABORTED", 1), ("PAUSED", 1)])
def test_a_watch_stays_with_one_rollout_until_it_runs_no_more(
    fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch, state: str, exit_code: int
) -> None:
    monkeypatch.setattr(rollouts, "POLL_S", 0)
    looks = iter([status(), status(), status(state=state)])
    fake.answers["firmware.rollout.status"] = lambda _: next(looks)
    result = mdm("rollout", "status", "--watch", "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (exit_code, state)
    assert sent(fake) == [{}, {"rollout": 7}, {"rollout": 7}]


@pytest.mark.parametrize("verb", ["pause", "resume", "abort"])
def test_a_rollout_is_paused_resumed_and_aborted(fake: fakes.FakeAdmin, mdm: Run, verb: str) -> None:
    fake.answers[f"firmware.rollout.{verb}"] = status()
    assert mdm("rollout", verb, "7").exit_code == 0
    assert sent(fake) == [{"rollout": 7}]


def test_a_hard_abort_is_requested_as_such(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["firmware.rollout.abort"] = status()
    mdm("rollout", "abort", "7", "--hard")
    assert sent(fake) == [{"rollout": 7, "hard": True}]


def test_the_history_is_the_audit_log_of_the_rollout(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.audit.list"] = admin.Audit(entries=[])
    mdm("rollout", "history", "7")
    assert sent(fake) == [{"subject": "rollout/7", "limit": 500}]


def test_the_list_is_newest_first_or_prints_how_to_start(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["firmware.rollout.list"] = admin.Rollouts(rollouts=[status(rollout=9), status()])
    lines = mdm("rollout", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ROLLOUT", "9", "7"]
    fake.answers["firmware.rollout.list"] = admin.Rollouts(rollouts=[])
    assert "mdm rollout start" in mdm("rollout", "list").stderr


@pytest.mark.parametrize("verb", ["preflight", "start"])
def test_a_tag_that_no_device_has_is_named(fake: fakes.FakeAdmin, mdm: Run, verb: str) -> None:
    refused = AnswerError("not_found", "no device matches", {})
    fake.answers |= {
        f"firmware.rollout.{verb}": refused,
        "registry.device.list": admin.Devices(devices=[fakes.device()]),
    }
    result = mdm("rollout", verb, "lamp", "1.2.3", "--tag", "atic")
    assert (result.exit_code, result.stderr) == (1, "error: no device has the tag atic; did you mean attic?\n")
    assert mdm("rollout", verb, "lamp", "1.2.3", "--tag", "attic").stderr == "error: no device matches\n"
