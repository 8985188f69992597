"""Lists on a terminal: a row is a line, whatever the width; golden/ has what is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from cli import tree
from tests.unit.cli import lists, views
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import SHA256, FakeAdmin
from tests.unit.cli.terminal import Terminal

GOLDEN = Path(__file__).parent / "golden"


OTHERS = {
    "config": {"set", "rollback", "layer set", "layer remove"},
    "connection": {"set", "remove", "rollback", "retry"},
    "device": {
        "add",
        "provision",
        "rename",
        "tag",
        "enable",
        "disable",
        "remove",
        "reissue",
        "import",
        "config set",
    },
    "firmware": {"inspect", "sign", "upload", "release", "withdraw", "pin", "unpin", "delete"},
    "firmware key": {"add", "remove"},
    "rollout": {"start", "pause", "resume", "abort"},
    "rotation": {"schedule set", "schedule clear"},
    "claim": {"create", "revoke", "approve", "deny", "forget"},
    "model": {"add", "change", "remove"},
    "log": {"show", "tail"},
    "command": {"send"},
    "coredump": {"get", "delete"},
    "notification": {"add", "remove"},
    "fleet": {"watch"},
    "admin": {"add", "password", "remove"},
    "": {"events", "login", "backup", "restore", "simulate"},
}
"""Commands that change something and print a few facts of it, or lines."""


def shown(columns: int, *options: str, module: str = "lists") -> str:
    with Terminal([sys.executable, "-m", f"tests.unit.cli.{module}", *options], columns=columns) as terminal:
        return "".join(f"{line.rstrip()}\n" for line in terminal.rest().splitlines())


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("module", ["lists", "views"])
def test_a_row_is_a_line_of_the_terminal(module: str, columns: int) -> None:
    text = shown(columns, module=module)
    assert text == (GOLDEN / f"{module}-{columns}.txt").read_text("utf-8")
    lines = [it for it in text.splitlines() if not it.startswith("$ mdm ")]
    # Only an id is never cut: a fingerprint has 64 characters.
    assert [it for it in lines if cell_len(it) > columns and SHA256 not in it] == []


def test_wide_has_all_columns_whole_cells_and_exact_times() -> None:
    text = shown(60, "--wide")
    assert lists.LONG in text
    assert "2025-02-01 12:34:56Z" in text
    assert "ELF SHA256" in text
    assert "…" not in text


def commands(command: object, *path: str) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
    else:
        for name, one in inner.items():
            yield from commands(one, *path, name)


def test_no_command_is_missing_here() -> None:
    every = [" ".join(path) for it in tree.COMMANDS for path in commands(it.load(), str(it.name))]
    here = [" ".join(words) for words in (*lists.LISTS, *views.VIEWS)]
    missing = {path for path in every if not any(f"{words} ".startswith(f"{path} ") for words in here)}
    assert missing == {f"{noun} {verb}".strip() for noun, verbs in OTHERS.items() for verb in verbs}


def test_columns_are_chosen_by_their_headings(fake: FakeAdmin, mdm: Run) -> None:
    fake.answers.update(lists.ANSWERS)
    chosen = mdm("device", "list", "--columns", "Last_seen, device")
    assert chosen.stdout.splitlines()[:2] == [
        "LAST SEEN             DEVICE",
        "2025-02-01 12:34:56Z  iotdevice-lamp-abcd1234",
    ]
    unknown = mdm("device", "list", "--columns=nane")
    assert unknown.stderr.startswith("error: --columns: there is no column nane; there are device, name, state, ")
    both = mdm("device", "list", "--columns", "name", "--json")
    assert (unknown.exit_code, both.exit_code) == (2, 2)
