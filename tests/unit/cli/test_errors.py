from collections.abc import Callable
from pathlib import Path

import pytest

from cli.client import AnswerError, CannotConnectError, NoAnswerError
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import FakeAdmin


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (AnswerError("conflict", "code: lamp is taken", {}), 1, "error: code: lamp is taken"),
        (AnswerError("invalid", "config: on: must be\na boolean", {}), 1, "error: config: on: must be a boolean"),
        (
            AnswerError("not_found", "there is no device x", {"device": "x"}),
            1,
            "error: there is no device x; see `mdm device list`",
        ),
        (AnswerError("not_found", "see `mdm a`", {}), 1, "error: see `mdm a`"),
        (
            AnswerError("not_found", "lamp has no image 9", {"model": "lamp", "image": "9"}),
            1,
            "error: lamp has no image 9; see `mdm firmware list`",
        ),
        (
            AnswerError("not_found", "there is no rollout 7", {"rollout": 7}),
            1,
            "error: there is no rollout 7; see `mdm rollout list`",
        ),
        (
            AnswerError("unavailable", "Keycloak does not answer", {}),
            1,
            "error: Keycloak does not answer; retry the same command",
        ),
        (NoAnswerError("no answer from the registry"), 1, "error: no answer from the registry"),
        (
            CannotConnectError("cannot connect to h:1 as a: refused"),
            3,
            "error: cannot connect to h:1 as a: refused",
        ),
    ],
)
def test_an_expected_error_is_one_line_and_a_status(
    fake: FakeAdmin, mdm: Run, error: Exception, status: int, line: str
) -> None:
    fake.answers["registry.device.list"] = error
    result = mdm("device", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", line + "\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("model", "add", "Lamp", "--chip", "esp32"), "error: CODE: must be 1 to 50 of a-z, 0-9 and _"),
        (("model", "add", "lamp", "--chip", "esp8266"), "error: --chip: must be one of esp32, esp32s2"),
        (
            ("model", "add", "lamp", "--chip", "esp32", "--slot-size", "1"),
            "error: --slot-size: must be at least 65536",
        ),
        (("device", "add", "--model", "lamp", "--tag", "a b"), "error: --tag: must be 1 to 50 of a-z, A-Z, 0-9"),
        (("device", "config", "set", "x"), "error: expected either KEY=VALUE... or --file"),
        (
            ("device", "config", "set", "x", "y"),
            "error: KEY=VALUE: expected a form such as wifi.ssid=home, found 'y'",
        ),
        (
            ("device", "config", "set", "x", "a=" + "b" * 40_000),
            "error: overrides: must be at most 32768 bytes",
        ),
        (("rotate",), "error: expected either DEVICE, or at least one of --all, --tag and --model"),
        (
            ("rotate", "x", "--all"),
            "error: expected either DEVICE, or at least one of --all, --tag and --model",
        ),
        (
            ("rotation", "start", "x", "--tag", "a"),
            "error: expected either DEVICE, or at least one of --all, --tag and --model",
        ),
        (("rotation", "start", "--tag", "a b"), "error: --tag: must be 1 to 50 of a-z, A-Z, 0-9"),
        (("rotation", "cancel"), "error: expected either DEVICE or --all"),
        (("rotation", "cancel", "x", "--all"), "error: expected either DEVICE or --all"),
        (("rotation", "history"), "error: Missing argument 'DEVICE'"),
        (
            ("rotation", "history", "x", "--limit", "0"),
            "error: --limit: must be at least 1; see `mdm rotation history --help`",
        ),
        (
            ("events", "--noun", "a/#"),
            "error: --noun: there are no events about a/#; there are account, ",
        ),
        (("events", "--follow", "--count", "1"), "error: expected either --follow or --count N"),
        (("events", "--count", "0"), "error: --count: must be at least 1"),
        (("device", "add"), "error: Missing option '--model'; see `mdm device add --help`"),
        (("device",), "error: Missing command; see `mdm device --help`"),
        (("frob",), "error: No such command 'frob'; see `mdm --help`"),
        (("device", "list", "--frob"), "error: No such option"),
        (("firmware", "upload", "/none", "--model", "lamp"), "error: FILE: file '/none' does not exist"),
        (("command", "show", "12"), "error: BATCH: must be a UUID; see `mdm command show --help`"),
        (("rollout", "status", "x"), "error: ROLLOUT: must be a whole number"),
        (("log", "show", "x", "--level", "loud"), "error: --level: 'loud' is not one of 'debug', 'info',"),
        (("connection", "set", "--all", "--host", "a b"), "error: --host: must be printable ASCII"),
        (("device", "vitals", "x", "--since", "99999d"), "error: --since: must be at most "),
        (("log", "show", "x", "--since", "99999d"), "error: --since: must be at most "),
        (("--port", "x", "device", "list"), "error: --port: must be a whole number"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    fake: FakeAdmin, mdm: Run, words: tuple[str, ...], line: str
) -> None:
    result = mdm(*words)
    assert (result.exit_code, result.stdout, fake.requests) == (2, "", [])
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def empty(path: Path) -> None:
    path.write_bytes(b"")


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (empty, "error: size_bytes: expected at least 24, a header, found 0"),
        (too_large, "error: FILE: must be at most 16777216 bytes, has 16777217"),
    ],
)
def test_a_file_that_is_no_image_by_its_size_is_refused(
    mdm: Run, tmp_path: Path, make: Callable[[Path], None], line: str
) -> None:
    make(tmp_path / "app.bin")
    result = mdm("firmware", "upload", str(tmp_path / "app.bin"), "--model", "lamp")
    assert (result.exit_code, result.stderr) == (2, line + "\n")


def test_a_profile_that_is_incomplete_is_an_error(mdm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDM_PASSWORD")
    result = mdm("device", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: profile: no password; `mdm login` asks and writes ")


def test_options_go_before_the_environment(fake: FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.list"] = NoAnswerError("none")
    mdm("--host", "other.test", "--timeout", "2.5", "device", "list")
    assert fake.profile is not None
    assert (fake.profile.host, fake.profile.account, fake.timeouts) == ("other.test", "alice", {2.5})


def test_a_bug_is_not_hidden(fake: FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.list"] = RuntimeError("a bug")
    assert isinstance(mdm("device", "list").exception, RuntimeError)


def test_without_a_command_the_help_is_shown(mdm: Run) -> None:
    result = mdm()
    assert result.exit_code == 0
    assert "Usage: mdm [OPTIONS] COMMAND" in result.stdout


def test_the_version_is_printed(mdm: Run) -> None:
    result = mdm("--version")
    assert (result.exit_code, result.stdout.count(".")) == (0, 2)


def test_json_behind_a_double_dash_is_a_word_like_any_other(mdm: Run) -> None:
    result = mdm("device", "show", "--", "--json")
    assert result.stderr == "" or result.stderr.startswith("error: ")
    assert result.exit_code != 0
