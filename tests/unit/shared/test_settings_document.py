from __future__ import annotations

import re

import pytest
import typer

from cli.main import app
from shared import environment, settings, settings_document


def rows() -> list[list[str]]:
    lines = settings_document.table().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_document_is_up_to_date() -> None:
    document = settings_document.DOCUMENT.read_text(encoding="utf-8")
    assert settings_document.written(document) == document, "run `make docs`"


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


@pytest.mark.parametrize("document", ["", settings_document.BEGIN, settings_document.END])
def test_a_document_without_a_place_for_it_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        settings_document.written(document)
