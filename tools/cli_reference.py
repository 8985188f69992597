"""The reference of `mdm` in docs/cli.md, generated from the Typer app."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import typer
from typer.core import TyperGroup

from cli.main import app
from cli.tree import Later

_HEAD: Final = """\
# Commands of `mdm`

Generated from the code by `make docs`; a test fails when it is stale. Run `scripts/uv run mdm` from the source
tree, or `scripts/mdm-compose` with Docker Compose.

`DEVICE` is a device's client id (`iotdevice-blink-mw9agw5m`) or key (`mw9agw5m`), the beginning of either if no
other device has it, its name, or the MAC address of a machine that has used a claim (`A0:B7:65:01:02:03`).

A terminal shows the columns of a table that fit, and times as `3 min ago`; `--wide`, and a pipe, have all columns
and exact times. `--json` prints results and errors as JSON. These, `--columns` and `--timeout` may be anywhere in
a command.

For completion of commands, devices, models, versions and tags, run `mdm --install-completion` once. It is for the
name `mdm`: in the source tree, put it on the path with `export PATH="$PWD/.venv/bin:$PATH"`.

| exit status | meaning                                           |
|-------------|---------------------------------------------------|
| 0           | done                                              |
| 1           | refused or failed                                 |
| 2           | the command breaks a rule; nothing was sent       |
| 3           | no connection to the broker                       |
| 130         | interrupted by Ctrl-C                             |
| 141         | nobody reads the output any more                  |

Connection settings come from the options below, else from the environment, else from the profile
(`~/.config/mdm/profile.toml`), which `mdm login` writes with mode 0600:

    host = "127.0.0.1"
    port = 1883
    account = "admin"
    password = "..."

The password has no option, since other users of the machine can read command lines. It comes from `MDM_PASSWORD`,
from the file that `MDM_PASSWORD_FILE` names, or from the profile.
"""
_GLOBAL: Final = "Most of these come before the command: `mdm --profile bob.toml device list`.\n"
_LEFT_OUT: Final = ("--help", "--install-completion", "--show-completion")


def text() -> str:
    """Return the page: the global options, then each command below its group."""
    root = typer.Context(typer.main.get_command(app), info_name="mdm")
    parts = [_HEAD, "## Options of all commands\n", _GLOBAL, *_options(root)]
    single = [one for one in _children(root) if not isinstance(one.command, TyperGroup)]
    for group in _groups(root):
        parts += [f"## {group.command_path}\n", f"{group.command.help}\n"]
        parts += [part for one in _leaves(group) for part in _command(one)]
    parts.append("## Other commands\n")
    parts += [part for one in single for part in _command(one)]
    return "\n".join(parts).rstrip() + "\n"


def _children(parent: typer.Context) -> Iterator[typer.Context]:
    """Yield the context of each visible command of a group, in the order of `--help`."""
    group = parent.command
    if isinstance(group, TyperGroup):
        for name in group.list_commands(parent):
            command = group.get_command(parent, name)
            if isinstance(command, Later):
                command = command.load()
            if command is not None and not command.hidden:
                yield typer.Context(command, info_name=name, parent=parent)


def _groups(root: typer.Context) -> Iterator[typer.Context]:
    return (one for one in _children(root) if isinstance(one.command, TyperGroup))


def _leaves(group: typer.Context) -> Iterator[typer.Context]:
    """Yield the commands of a group and of the groups in it."""
    for one in _children(group):
        if isinstance(one.command, TyperGroup):
            yield from _leaves(one)
        else:
            yield one


def _command(context: typer.Context) -> list[str]:
    help_text = (context.command.help or "").strip()
    return [f"### {context.command_path}\n", f"    {usage(context)}\n", f"{help_text}\n", *_options(context)]


def usage(context: typer.Context) -> str:
    """Return one line: the path of a command, its required options, and its arguments."""
    words, optional = [context.command_path], False
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or record[0].startswith(_LEFT_OUT):
            continue
        if parameter.param_type_name == "argument":
            words += parameter.get_usage_pieces(context)
        elif parameter.required:
            words.append(record[0].rpartition(", ")[2])
        else:
            optional = True
    return " ".join([*words, "[OPTIONS]"] if optional else words)


def _options(context: typer.Context) -> list[str]:
    """Return a table of options, or nothing if `--help` is the only one."""
    rows = []
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if parameter.param_type_name == "option" and record and not record[0].startswith(_LEFT_OUT):
            name, meaning = record[0], re.sub(r"  +", " ", record[1])
            rows.append(f"| `{_cell(name)}` | {_cell(meaning)} |")
    return ["\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"] if rows else []


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
