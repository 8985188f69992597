"""Text that means something to a database, a terminal, a log, a path or a page, in every text field there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest
from pydantic import ConfigDict, ValidationError

from cli.client import AnswerError
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import SERVICES, System
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Operation, Request
from shared.protocol.messages import LogLevel
from tests.integration.test_tool import environment, mdm
from tests.raw import RawDevice

__all__ = ["environment"]

NASTY: Final = {
    "SQL": "x'; DROP TABLE mdm.devices; --",
    "SQL LIKE": "%_%",
    "a path": "../../../../etc/passwd",
    "a URL's path": "..%2f..%2fetc%2fpasswd",
    "a line of a log": 'x\n{"event": "forged", "level": "info"}',
    "a terminal's command": "x\x1b[2J\x9b2J",
    "another direction": "x\u202etxt.exe",
    "NUL": "x\x00y",
    "a page": "<script>alert(1)</script>",
    "a format": "%s%n{0}{secret}$" + "{jndi:ldap://x}",
    "half a character": "x\ud800",
    "a topic": "+/#/$share/x/#",
    "long": "x" * 50_000,
}
SENDABLE: Final = {name: text for name, text in NASTY.items() if name != "half a character"}
LINES: Final = sorted(set(NASTY) - {"a line of a log", "a terminal's command", "NUL", "long", "half a character"})
"""Those that a line of text may be, which must then come back as they are."""


class Anything(Request):
    """A request with any fields, also such as its operation refuses."""

    model_config = ConfigDict(extra="allow")

    request_id: Any


def text_fields(operation: Operation[Any, Any]) -> Iterator[str]:
    """Yield the names of the fields of a request that may hold text."""
    for name in operation.request.model_fields:
        schema = operation.request.model_json_schema()["properties"][name]
        if any(f'"type": "{kind}"' in json.dumps(schema) for kind in ("string", "object", "array")):
            yield name


def test_all_operations_are_among_them() -> None:
    assert len(admin.OPERATIONS.values()) > 50
    assert sum(len(list(text_fields(operation))) for operation in admin.OPERATIONS.values()) > 100


async def tables(stack: Stack) -> list[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'mdm' ORDER BY 1"
    return [row["table_name"] for row in await run(stack, query)]


def assert_logs_are_whole(system: System) -> None:
    """Each line in the services' logs is one that a service has written itself."""
    for service in SERVICES:
        for line in system.services[service].log_file.read_text().splitlines():
            assert json.loads(line)["event"] != "forged", line


@pytest.mark.parametrize("operation", admin.OPERATIONS.values(), ids=lambda operation: operation.name)
async def test_a_request_with_nasty_text_is_answered_and_breaks_nothing(
    fleet: Fleet, stack: Stack, system: System, operation: Operation[Any, Any]
) -> None:
    before = await tables(stack)

    async def ask(field: str, value: object) -> str:
        request = Anything.model_validate({"request_id": uuid4().hex} | {field: value})
        try:
            await fleet.admin.call(operation, request)
        except AnswerError as error:
            return error.answer_code
        return "done"

    for field in text_fields(operation):
        for text in SENDABLE.values():
            outcomes = await asyncio.gather(ask(field, text), ask(field, [text]), ask(field, {text: text}))
            assert set(outcomes) <= {"done", "message_refused", "invalid_input", "not_found", "conflict"}
    assert await tables(stack) == before
    await asyncio.to_thread(assert_logs_are_whole, system)


@pytest.mark.parametrize("kind", LINES)
async def test_nasty_text_that_is_taken_is_kept_as_it_is(
    fleet: Fleet, system: System, environment: dict[str, str], kind: str
) -> None:
    text = NASTY[kind]
    model = await fleet.model(name=text)
    added = await fleet.ask(admin.DEVICE_ADD, model=model, name=text)
    await fleet.ask(admin.CONFIG_SET, device=added.client_id, overrides={text: text})
    package = await fleet.ask(admin.DEVICE_PROVISION, device=added.client_id)
    async with RawDevice(package) as device:
        status = messages.Status(online=True, project=text, reset_reason=text, chip=text, ip=text)
        await device.client.publish(
            topics.STATUS.of(client_id=package.client_id), topics.STATUS.encode(status), qos=1, retain=True
        )
        line = messages.LogLine(level=LogLevel.INFO, message=text, tag=text)
        await device.send(topics.LOG, messages.Log(boot=1, first=0, lines=[line]))
        report = messages.ConfigReport(version=2, outcome=messages.ConfigOutcome.REJECTED, error=text)
        await device.send(topics.CONFIG_REPORT, report)
        await fleet.until(package, lambda view: view.config_outcome == "rejected")
    view = await fleet.show(package)
    assert view.name == text
    assert (await fleet.ask(admin.CONFIG_GET, device=package.client_id)).document[text] == text
    shown = await mdm("device", "list", "--model", model, **environment)
    assert shown.status == 0
    assert all(character.isprintable() or character == "\n" for character in shown.output)
    assert len(shown.output.splitlines()) == 2
    await asyncio.to_thread(assert_logs_are_whole, system)


@pytest.mark.parametrize("kind", sorted(set(NASTY) - set(LINES)))
def test_text_that_is_no_line_is_refused_where_a_line_is_meant(kind: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        admin.DEVICE_ADD.request.model_validate({"request_id": "1", "model": "blink", "name": NASTY[kind]})
