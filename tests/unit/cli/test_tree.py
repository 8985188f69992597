"""The summaries of commands in the tree are those of the commands, which are imported when they are called."""

from __future__ import annotations

import pytest

from cli import tree


@pytest.mark.parametrize("command", tree.COMMANDS, ids=lambda it: it.name)
def test_the_summary_of_a_command_is_its_own(command: tree.Later) -> None:
    itself = command.load()
    assert (itself.name, itself.help.partition("\n\n")[0]) == (command.name, command.help)
