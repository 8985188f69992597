from __future__ import annotations

from pathlib import Path

import pytest

from device.config import FILE_NAME, ConfigStore, Configuration
from device.options import Options
from device.slots import StateUnreadableError
from device.uplink import Ending
from shared.protocol import messages, topics
from shared.protocol.messages import ConfigOutcome, ConnectionState
from tests.unit.device.kit import Killed, Surroundings


def boot(folder: Path, around: Surroundings) -> Configuration:
    store = ConfigStore(folder, fault=around.hooks.fault)
    configuration = Configuration(store, around.uplink, Options(retry_s=5, sweep_s=100), ConnectionState)
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
    answer = push(3, request_id=first.request_id)
    assert configuration.is_answer(answer)
    configuration.on_config(answer)
    assert not configuration.is_answer(answer)
    assert around.take(topics.CONFIG_GET, after_s=99) == []
    (later,) = around.take(topics.CONFIG_GET, after_s=1)
    assert later.request_id != first.request_id
    assert later.have_version == 3
    assert around.take(topics.CONFIG_GET, after_s=4) == []
    assert around.take(topics.CONFIG_GET, after_s=1) == [later]


def test_a_device_that_waits_for_an_answer_asks_ever_less_often_up_to_a_limit(tmp_path: Path) -> None:
    around = Surroundings()
    boot(tmp_path, around)
    (first,) = around.take(topics.CONFIG_GET)

    for pause_s in (5, 10, 20, 40, 60, 60):
        assert around.take(topics.CONFIG_GET, after_s=pause_s - 1) == []
        assert around.take(topics.CONFIG_GET, after_s=1) == [first]


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

    configuration.on_config(push(4))
    configuration.on_config(push(4, request_id="another"))
    assert configuration.version == 5
    configuration.on_config(push(3, request_id=question.request_id))
    assert configuration.version == 3


def test_a_push_outdates_the_answer_that_is_under_way(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)
    (question,) = around.take(topics.CONFIG_GET)

    configuration.on_config(push(7))
    configuration.on_config(push(6, request_id=question.request_id))

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


def on_trial(version: int, trial_seconds: int = 30) -> messages.Config:
    return push(version).model_copy(update={"trial_seconds": trial_seconds})


def reconnect(configuration: Configuration, around: Surroundings) -> None:
    around.uplink.reset()
    configuration.on_connected()


def trial(folder: Path, around: Surroundings) -> Configuration:
    """A device with version 1 that has version 2 on trial, and has not reconnected yet."""
    configuration = boot(folder, around)
    configuration.on_config(push(1))
    around.take(topics.CONFIG_REPORT)
    configuration.on_config(on_trial(2))
    return configuration


def reverted(around: Surroundings, after_s: float = 0.0) -> list[int]:
    reports = around.take(topics.CONFIG_REPORT, after_s=after_s)
    assert {report.outcome for report in reports} <= {ConfigOutcome.REVERTED}
    return [report.version for report in reports]


def test_a_version_on_trial_is_reported_and_kept_on_the_next_connection_only(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)

    assert around.uplink.ending is Ending.SWITCH
    assert around.take(topics.CONFIG_REPORT) == []
    assert (configuration.version, ConfigStore(tmp_path).on_trial) == (2, True)
    reconnect(configuration, around)
    assert around.take(topics.CONFIG_REPORT, after_s=29) == [report(2)]
    assert (configuration.trial_by, ConfigStore(tmp_path).on_trial) == (None, False)
    around.flush(after_s=100)
    configuration.on_config(unchanged(2))
    assert around.take(topics.CONFIG_REPORT) == [report(2)]
    assert configuration.version == 2


def test_a_version_that_is_not_proved_in_time_is_reverted_and_never_applied_again(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)
    around.time_s += 30

    reconnect(configuration, around)
    assert reverted(around) == [2]
    assert (configuration.version, ConfigStore(tmp_path).document) == (1, {"is": 1})
    for again in (on_trial(2), push(2)):
        configuration.on_config(again)
        assert reverted(around) == [2]
    reconnect(configuration, around)
    assert reverted(around) == [2]

    configuration.on_config(push(3))
    assert around.take(topics.CONFIG_REPORT) == [report(3)]
    reconnect(configuration, around)
    assert around.take(topics.CONFIG_REPORT) == []


def test_a_trial_that_runs_out_without_a_connection_is_reverted_when_its_time_comes(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)

    assert configuration.trial_by == 30
    configuration.on_trial_timeout()
    assert configuration.version == 1
    configuration.on_trial_timeout()
    assert around.points.count("config.revert:after") == 1


def test_a_report_that_the_broker_takes_too_late_does_not_save_a_version(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)
    reconnect(configuration, around)
    around.time_s += 30

    assert [it.outcome for it in around.take(topics.CONFIG_REPORT)] == [
        ConfigOutcome.APPLIED,
        ConfigOutcome.REVERTED,
    ]
    assert configuration.version == 1


def test_a_restart_ends_a_trial(tmp_path: Path) -> None:
    around = Surroundings()
    trial(tmp_path, around)

    around = Surroundings()
    configuration = boot(tmp_path, around)
    assert set(reverted(around)) == {2}
    assert (configuration.version, ConfigStore(tmp_path).refused) == (1, 2)
    around = Surroundings()
    boot(tmp_path, around)
    assert reverted(around) == [2]


def test_the_first_version_of_all_is_reverted_to_none(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = boot(tmp_path, around)
    configuration.on_config(on_trial(1))

    configuration.on_trial_timeout()

    assert (configuration.version, ConfigStore(tmp_path).document) == (None, {})


def test_a_second_trial_before_the_end_of_the_first_goes_back_to_what_was_good(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)
    reconnect(configuration, around)
    configuration.on_config(on_trial(3))
    around.time_s += 30

    reconnect(configuration, around)

    assert reverted(around) == [3]
    assert ConfigStore(tmp_path).document == {"is": 1}


def test_a_version_without_a_trial_ends_the_trial_before_it(tmp_path: Path) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)
    reconnect(configuration, around)

    configuration.on_config(push(3))

    assert report(3) in around.take(topics.CONFIG_REPORT, after_s=100)
    assert (configuration.version, configuration.trial_by) == (3, None)


@pytest.mark.parametrize("at", ["before", "written", "after"])
@pytest.mark.parametrize("point", ["confirm", "revert"])
def test_a_device_killed_at_the_end_of_a_trial_has_one_whole_configuration(
    tmp_path: Path, point: str, at: str
) -> None:
    around = Surroundings()
    configuration = trial(tmp_path, around)
    around.kill_at = f"config.{point}:{at}"
    around.time_s += 0 if point == "confirm" else 30

    def end() -> None:
        reconnect(configuration, around)
        around.flush()

    with pytest.raises(Killed):
        end()

    around = Surroundings()
    is_kept = (point, at) == ("confirm", "after")
    assert boot(tmp_path, around).version == (2 if is_kept else 1)


def test_a_file_of_the_firmware_before_trials_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"version": 4, "document": {"a": null}}')

    store = ConfigStore(tmp_path)

    assert (store.version, store.document, store.on_trial, store.refused) == (4, {"a": None}, False, None)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[]")

    with pytest.raises(StateUnreadableError):
        ConfigStore(tmp_path)
