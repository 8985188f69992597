from __future__ import annotations

import re

import typer

from cli.main import app
from shared.runtime import environment, settings
from tools import settings_table


def rows() -> list[list[str]]:
    lines = settings_table.table().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_setting_has_one_whole_row() -> None:
    named = [name for row in rows() for name in re.findall(r"`(MDM_\w+)`", row[0])]
    assert sorted(named) == sorted(environment.known())
    for variable, kind, default, _, who, meaning in rows():
        assert all((variable, kind, default, who, meaning)), variable


def test_a_setting_that_services_share_means_the_same_to_all() -> None:
    declared: dict[str, object] = {}
    for kind in settings.READERS.values():
        for name, field in kind.model_fields.items():
            if name != "keycloak_url":  # the firmware service needs it for HTTP only
                assert declared.setdefault(name, (field.annotation, field.default)) == (
                    field.annotation,
                    field.default,
                )


def test_the_tool_reads_what_is_declared_of_it() -> None:
    command = typer.main.get_command(app)
    options = {option.envvar for option in command.params if getattr(option, "envvar", None)}
    declared = {environment.variable(name) for name in settings.ToolSettings.model_fields}
    assert options | {"MDM_PASSWORD"} == declared
