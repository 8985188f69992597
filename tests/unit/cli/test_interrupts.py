"""Nothing that a person does ends in a traceback: Ctrl-C, streams that are closed or full, other encodings."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.unit.cli import terminal
from tests.unit.cli.terminal import ENVIRONMENT, Terminal


def ran(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the tool, as `"$@"`, in a shell command."""
    words = ["sh", "-c", command, "sh", *terminal.mdm()]
    env = {**ENVIRONMENT, **environment}
    return subprocess.run(words, check=False, capture_output=True, timeout=60, env=env, cwd=terminal.ROOT)


@pytest.mark.parametrize("module", ["cli.lazy", "typer.core", "cli.main", "paho.mqtt.client"])
def test_ctrl_c_while_a_module_is_imported_ends_without_a_traceback(module: str) -> None:
    # Python names each module on the terminal when it has imported it.
    command = terminal.mdm("--host", "192.0.2.1", "device", "list", options=["-X", "importtime"])
    with Terminal(command, columns=1000) as started:
        shown = started.until(module)
        started.interrupt()
        shown += started.rest()
    assert "Traceback" not in shown
    assert started.process.returncode in {130, -signal.SIGINT}


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("login",), "Host"),
        (("--host", "127.0.0.1", "--port", "1", "--account", "a", "login"), "assword: "),
    ],
)
@pytest.mark.parametrize("key", ["ctrl-c", "ctrl-d"])
def test_a_question_may_be_left(words: tuple[str, ...], question: str, key: str) -> None:
    command = ["env", "-u", "MDM_PASSWORD", "-u", "MDM_HOST", *terminal.mdm(*words)]
    with Terminal(command) as started:
        shown = started.until(question)
        if key == "ctrl-c":
            started.interrupt()
        else:
            started.type("\x04")
        shown += started.rest()
    assert "Traceback" not in shown
    assert started.process.returncode in {130, 2, -signal.SIGINT}


@pytest.mark.parametrize("closed", ["< /dev/null", "<&-"])
@pytest.mark.parametrize("words", ["login", "backup /tmp/none.mdm", "device import /dev/null", "rotate --all"])
def test_closed_input_is_an_error_in_one_line(closed: str, words: str) -> None:
    ended = ran(f'"$@" {words} {closed}', MDM_PASSWORD="")
    assert b"Traceback" not in ended.stderr
    assert (ended.stderr[:7], ended.stderr.count(b"\n")) == (b"error: ", 1)
    assert ended.returncode in {1, 2, 3}


def test_input_that_is_not_utf_8_is_an_error_in_one_line() -> None:
    for locale in ("C.UTF-8", "C"):
        ended = ran("printf '\\377\\n' | \"$@\" login", MDM_PASSWORD="", LC_ALL=locale)
        assert ended.stderr == b"error: standard input must be text in UTF-8\n"
        assert ended.returncode == 2


def test_words_that_are_not_utf_8_are_refused() -> None:
    ended = ran('"$@" device show "$(printf \'\\377\')"')
    assert ended.stderr == b"error: \\udcff: must be text in UTF-8\n"
    assert ended.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", ["--help", "--version", "device --help"])
def test_a_full_disk_is_an_error_in_one_line(words: str) -> None:
    ended = ran(f'"$@" {words} > /dev/full')
    assert ended.stderr == b"error: standard output cannot be written: No space left on device\n"
    assert ended.returncode == 1
    closed = ran(f'"$@" {words} >&-')
    assert (closed.stderr, closed.returncode) == (b"error: standard output is closed\n", 1)


def test_a_reader_that_has_enough_ends_the_tool_in_silence() -> None:
    ended = ran('{ "$@" --help; echo $? >&2; } | true')
    assert ended.stderr in {b"141\n", b"1\n", b"0\n"}


def test_text_that_the_terminal_cannot_show_is_replaced() -> None:
    ended = ran('"$@" device show Küche', PYTHONIOENCODING="ascii", MDM_HOST="münchen.invalid")
    assert b"Traceback" not in ended.stderr
    assert b"m\\xfcnchen" in ended.stderr
    assert os.fsencode("ü") not in ended.stderr
