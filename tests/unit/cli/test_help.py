"""Help: whole summaries at 80 columns, no types of Python, and examples that the tool takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from cli import main, tree
from shared.protocol.admin import RolloutPlan
from tests.unit.cli import terminal
from tests.unit.cli.conftest import Run
from tests.unit.cli.terminal import Terminal


def paths(command: object, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of a command, and of all in it."""
    yield path
    for name, one in getattr(command, "commands", {}).items():
        yield from paths(one, *path, name)


ALL = [(), *(path for it in tree.COMMANDS for path in paths(it.load(), str(it.name)))]
EXAMPLES = [line.strip() for it in tree.COMMANDS for line in (it.epilog or "").splitlines() if "  mdm " in line]


def shown(*words: str) -> str:
    result = CliRunner().invoke(main.app, [*words], prog_name="mdm", env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_is_whole_and_for_people(path: tuple[str, ...]) -> None:
    text = shown(*path, "-h")
    assert text == shown(*path, "--help")
    assert [line for line in text.splitlines()[1:] if line.endswith("...")] == []
    assert re.findall(r"<[^>\s]*(?:str|int|float|Path|UUID|range)[^>\s]*>|\[\[|[{}]", text) == []


def test_summaries_are_whole_before_any_command_is_loaded() -> None:
    with Terminal(terminal.mdm("--help"), columns=80) as screen:
        assert [line for line in screen.rest().splitlines()[1:] if line.endswith("...")] == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_command_that_exists(example: str) -> None:
    words = shlex.split(example)[1:]
    command: object = {it.name: it.load() for it in tree.COMMANDS}[words.pop(0)]
    while inner := getattr(command, "commands", None):
        command = inner[words.pop(0)]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}  # type: ignore[attr-defined]
    assert [word for word in words if word.startswith("--") and word not in options] == []


def test_each_group_has_examples() -> None:
    assert [it.name for it in tree.COMMANDS if getattr(it.load(), "commands", None) and not it.epilog] == []


def test_defaults_of_rollouts_are_in_the_help() -> None:
    text = " ".join(shown("rollout", "start", "--help").split())
    plan = RolloutPlan()
    for default in (
        *(",".join(plan.waves), f"{plan.success_percent}%", plan.failure_limit, f"{plan.soak_s // 60}m"),
        *(f"{plan.silence_s // 60}m", plan.zone, str(plan.max_under_way), str(plan.offers_per_minute)),
    ):
        assert f"the default is {default}." in text


def test_global_options_may_be_anywhere(mdm: Run) -> None:
    result = mdm("model", "list", "--timeout", "x")
    assert result.stderr.startswith("error: --timeout: must be a number")
