from __future__ import annotations

from pathlib import Path

import pytest

from device.config import FILE_NAME, ConfigStore, Configuration
from device.options import Options
from device.slots import StateUnreadableError
from shared import messages, topics
from shared.messages import ConfigOutcome
from tests.unit.device.kit import Killed, Surroundings


def boot(folder: Path, around: Surroundings) -> Configuration:
    store = ConfigStore(folder, fault=around.hooks.fault)
    configuration = Configuration(store, around.uplink, Options(retry_s=5, sweep_s=100))
    configuration.on_connected()
    return configuration


def push(version: int, *, request_id: str | None = None) -> messages.Config:
    return messages.Config(version=version, document={"is": version}, secret_generation=1, request_id=request_id)


def unchanged(version: int, request_id: str | None = None) -> messages.Config:
    return messages.Config(version=version, unchanged=True, secret_generation=1, request_id=request_id)


def report(version: int) -> messages.ConfigReport:
    return messages.ConfigReport(version=version, outcome=ConfigOutcome.APPLIED)


def test_the_device_asks_until_it_is_answered_and_again_after_a_sweep(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)

    (first,) = around.take(topics.CONFIG_GET)
    assert around.take(topics.CONFIG_GET, after_s=4) == []
    assert around.take(topics.CONFIG_GET, after_s=1) == [first]
    assert configuration.on_config(push(3, request_id=first.request_id))
    assert around.take(topics.CONFIG_GET, after_s=99) == []
    (later,) = around.take(topics.CONFIG_GET, after_s=1)
    assert later.request_id != first.request_id
    assert later.have_version == 3
    assert around.take(topics.CONFIG_GET, after_s=4) == []
    assert around.take(topics.CONFIG_GET, after_s=1) == [later]


def test_a_version_is_applied_once_and_reported_each_time(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)

    for message in (push(2), push(2), unchanged(2)):
        configuration.on_config(message)

    assert around.take(topics.CONFIG_REPORT) == [report(2)] * 3
    assert around.points.count("config.apply:after") == 1
    assert ConfigStore(tmp_path).document == {"is": 2}


def test_a_lower_version_is_stale_unless_it_answers_our_question(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)
    configuration.on_config(push(5))
    (question,) = around.take(topics.CONFIG_GET)

    assert not configuration.on_config(push(4))
    assert not configuration.on_config(push(4, request_id="another"))
    assert configuration.version == 5
    assert configuration.on_config(push(3, request_id=question.request_id))
    assert configuration.version == 3


def test_a_push_outdates_the_answer_that_is_under_way(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)
    (question,) = around.take(topics.CONFIG_GET)

    configuration.on_config(push(7))
    assert not configuration.on_config(push(6, request_id=question.request_id))

    assert configuration.version == 7
    (again,) = around.take(topics.CONFIG_GET)
    assert (again.have_version, again.request_id == question.request_id) == (7, False)


def test_a_rejected_version_leaves_the_applied_one_and_may_be_accepted_later(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)
    configuration.on_config(push(1))
    around.take(topics.CONFIG_REPORT)

    around.config_error = "led_pin: must be\nfrom 0 to 39"
    configuration.on_config(push(2))
    (rejected,) = around.take(topics.CONFIG_REPORT)
    assert (rejected.outcome, rejected.error) == (ConfigOutcome.REJECTED, "led_pin: must be from 0 to 39")
    assert ConfigStore(tmp_path).version == 1

    around.config_error = None
    configuration.on_config(push(2))
    assert around.take(topics.CONFIG_REPORT) == [report(2)]


def test_unchanged_of_a_version_that_we_do_not_have_changes_nothing(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)

    configuration.on_config(unchanged(9))

    assert configuration.version is None
    assert around.take(topics.CONFIG_REPORT) == []


@pytest.mark.parametrize("at", ["before", "written", "after"])
def test_a_device_killed_while_applying_has_one_whole_configuration(tmp_path: Path, at: str) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)
    configuration.on_config(push(1))
    around.kill_at = f"config.apply:{at}"

    with pytest.raises(Killed):
        configuration.on_config(push(2))

    assert ConfigStore(tmp_path).document == {"is": 2 if at == "after" else 1}


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[]")

    with pytest.raises(StateUnreadableError):
        ConfigStore(tmp_path)
