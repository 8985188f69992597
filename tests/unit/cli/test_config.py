import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import config, passwords
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

ENTRY = admin.ConfigEntry(
    version=3, author="alice", created_at=fakes.NOW, trial_seconds=60, outcome="applied", reported_at=fakes.NOW
)
VIEW = admin.ConfigView(
    client_id="x",
    overrides={"a": 1},
    document={"a": 1, "b": 2},
    desired=3,
    reported=2,
    reported_outcome="applied",
    **ENTRY.model_dump(),
)
VERSIONS = admin.ConfigVersions(client_id="x", desired=3, versions=[ENTRY], next=None)
CHANGES = admin.ConfigChanges(
    client_id="x",
    from_version=2,
    to_version=3,
    changes=[admin.ConfigChange(path=["led", "on"], kind="changed", before=1, after=None)],
)
SET = admin.ConfigSetResult(client_id="x", version=4, changed=True, document={"a": 1})
LAYER = admin.LayerView(tag="attic", priority=5, document={"a": 1}, author="alice", updated_at=fakes.NOW)
LAYER_SET = admin.LayerResult(tag="attic", layer=LAYER, devices=["x", "y"])
LAYER_REMOVED = admin.LayerResult(tag="attic", layer=None, devices=["x"])
Case = tuple[tuple[str, ...], str, admin.Result, dict[str, object], str]
COMMANDS: list[Case] = [
    (("get", "x"), "config.get", VIEW, {"device": "x"}, "2 applied"),
    (("get", "x", "--version", "3"), "config.get", VIEW, {"device": "x", "version": 3}, '{"a": 1, "b": 2}'),
    (("history", "x"), "config.history", VERSIONS, {"device": "x", "limit": 100}, "3 *"),
    (("diff", "x"), "config.diff", CHANGES, {"device": "x"}, "led.on  changed  1"),
    (("diff", "x", "0"), "config.diff", CHANGES, {"device": "x", "from_version": 0}, "VERSION 2  VERSION 3"),
    (
        ("diff", "x", "1", "2"),
        "config.diff",
        CHANGES,
        {"device": "x", "from_version": 1, "to_version": 2},
        "null",
    ),
    (("rollback", "x", "2"), "config.rollback", SET, {"device": "x", "version": 2}, "4 (new)"),
    (
        ("set", "x", "a=1", "--trial-seconds", "30"),
        "config.set",
        SET,
        {"device": "x", "overrides": {"a": 1}, "replace": False, "trial_seconds": 30},
        "4 (new)",
    ),
    (
        ("layer", "set", "attic", "a=1"),
        "layer.set",
        LAYER_SET,
        {"tag": "attic", "document": {"a": 1}, "replace": False},
        "x, y",
    ),
    (
        ("layer", "set", "attic", "--priority", "5"),
        "layer.set",
        LAYER_SET,
        {"tag": "attic", "document": {}, "replace": False, "priority": 5},
        "attic",
    ),
    (("layer", "show", "attic"), "layer.show", LAYER, {"tag": "attic"}, '{"a": 1}'),
    (("layer", "list"), "layer.list", admin.Layers(layers=[LAYER]), {}, "attic  5"),
    (("layer", "remove", "attic"), "layer.remove", LAYER_REMOVED, {"tag": "attic"}, "(removed)"),
]


@pytest.fixture(autouse=True)
def _devices(fake: fakes.FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "POLL_S", 0)
    fake.answers["registry.device.list"] = admin.Devices(devices=[fakes.device()])


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: " ".join(case[0]))
def test_a_command_sends_what_is_given_and_shows_the_answer(fake: fakes.FakeAdmin, mdm: Run, case: Case) -> None:
    words, operation, answer, sent, shown = case
    fake.answers[f"registry.{operation}"] = answer

    result = mdm("config", *words)

    (request,) = fake.sent(f"registry.{operation}")
    assert request.model_dump(exclude={"request_id"}, exclude_unset=True) == sent
    assert (result.exit_code, shown in result.stdout) == (0, True), result.output
    assert json.loads(mdm("config", *words, "--json").stdout) == answer.model_dump(mode="json")


def test_a_secret_is_typed_or_piped_and_is_text(
    fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["registry.config.set"] = SET
    words = ("config", "set", "x", "a=1", "--secret", "wifi.psk", "--secret", "pin")
    assert mdm(*words, typed="12345678\nabc=\n").exit_code == 0
    typed = {"wifi.psk: ": "true", "pin: ": '"'}
    monkeypatch.setattr(passwords, "is_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda title: typed[title])
    assert mdm(*words).exit_code == 0
    assert [request.model_dump()["overrides"] for _, request in fake.requests] == [
        {"a": 1, "wifi": {"psk": "12345678"}, "pin": "abc="},
        {"a": 1, "wifi": {"psk": "true"}, "pin": '"'},
    ]


def test_a_secret_that_is_missing_is_named(fake: fakes.FakeAdmin, mdm: Run) -> None:
    assert "wifi.psk: pass its value on standard input" in mdm("config", "set", "x", "--secret", "wifi.psk").stderr
    assert fake.requests == []


def test_history_reads_pages_until_the_limit(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def page(request: admin.ConfigHistory) -> admin.ConfigVersions:
        newest = 999 if request.before is None else request.before - 1
        entries = [ENTRY.model_copy(update={"version": newest - n}) for n in range(request.limit)]
        return VERSIONS.model_copy(update={"versions": entries, "next": entries[-1].version})

    fake.answers["registry.config.history"] = page

    shown = json.loads(mdm("--json", "config", "history", "x", "--limit", "700").stdout)

    assert [entry["version"] for entry in shown["versions"]] == list(range(999, 299, -1))


def test_an_empty_diff_and_an_empty_list_of_layers_print_a_note(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.config.diff"] = CHANGES.model_copy(update={"changes": []})
    fake.answers["registry.layer.list"] = admin.Layers(layers=[])

    assert "no differences between versions 2 and 3" in mdm("config", "diff", "x").stderr
    assert "no layers yet" in mdm("config", "layer", "list").stderr


def test_a_file_replaces_a_layer(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers["registry.layer.set"] = LAYER_SET
    (tmp_path / "layer.json").write_text('{"a": null}')

    assert mdm("config", "layer", "set", "attic", "--file", str(tmp_path / "layer.json")).exit_code == 0

    (request,) = fake.sent("registry.layer")
    assert request.model_dump(include={"document", "replace"}) == {"document": {"a": None}, "replace": True}


@pytest.mark.parametrize(
    "words", [("set", "x"), ("layer", "set", "attic"), ("set", "x", "a=1", "--trial-seconds", "0")]
)
def test_an_empty_change_or_one_without_a_time_is_not_sent(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...]
) -> None:
    assert mdm("config", *words).exit_code == 2
    assert fake.requests == []


def test_the_command_has_its_old_name_too(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.config.set"] = SET

    assert mdm("device", "config", "set", "x", "a=1").stdout == mdm("config", "set", "x", "a=1").stdout


def outcomes(*reported: str | None) -> Callable[[admin.ConfigVersionGet], admin.ConfigView]:
    """Answer each look with the next outcome of the version."""
    left = list(reported)
    return lambda _: VIEW.model_copy(update={"outcome": left.pop(0)})


@pytest.mark.parametrize(("outcome", "status"), [("applied", 0), ("rejected", 1), ("reverted", 1)])
def test_set_waits_until_the_device_has_reported(
    fake: fakes.FakeAdmin, mdm: Run, outcome: str, status: int
) -> None:
    fake.answers |= {
        "registry.config.set": SET,
        "registry.config.get": outcomes(None, None, outcome),
        "registry.device.show": fakes.details(),
    }
    result = mdm("config", "set", "x", "a=1", "--wait")
    assert (result.exit_code, result.stderr) == (status, f"the device has {outcome} version 4\n")
    assert {it.version for it in fake.sent("registry.config.get")} == {4}  # type: ignore[attr-defined]


def test_set_does_not_wait_for_a_device_that_is_offline(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers |= {"registry.config.set": SET, "registry.device.show": fakes.details(online=False)}
    result = mdm("config", "set", "x", "a=1", "--wait")
    offline = "the device is offline since 2025-02-01 12:34:56Z: it gets version 4 when it connects\n"
    assert (result.exit_code, result.stderr) == (1, offline)


def test_set_waits_for_a_limited_time(fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WAIT_S", 0.05)
    fake.answers |= {
        "registry.config.set": SET,
        "registry.config.get": VIEW.model_copy(update={"outcome": None}),
        "registry.device.show": fakes.details(),
    }
    result = mdm("config", "set", "x", "a=1", "--wait")
    assert (result.exit_code, result.stderr) == (1, "no report within 0.05 s; see `mdm config history x`\n")


def test_a_layer_of_several_devices_is_counted_and_asked_for(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.list"] = admin.Devices(devices=[fakes.device(), fakes.device(online=False)])
    refused = mdm("config", "layer", "set", "attic", "a=1", typed="n\n")
    assert "change the configuration of 2 devices, 1 of them offline? [y/N]" in refused.stderr
    removed = mdm("config", "layer", "remove", "attic", "--dry-run")
    assert removed.stderr == "would remove the layer from 2 devices, 1 of them offline\n"
    assert (refused.exit_code, removed.exit_code, fake.sent("registry.layer")) == (2, 0, [])


def test_a_layer_of_a_tag_that_no_device_has_is_noted(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def listed(request: admin.DeviceList) -> admin.Devices:
        return admin.Devices(devices=[] if request.tag else [fakes.device()])

    fake.answers |= {"registry.device.list": listed, "registry.layer.set": LAYER_SET}
    result = mdm("config", "layer", "set", "atic", "a=1")
    assert (result.exit_code, result.stderr) == (0, "no device has the tag atic; did you mean attic?\n")
