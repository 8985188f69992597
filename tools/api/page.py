"""The API as a Markdown page: docs/api.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from shared.protocol import admin, topics
from shared.protocol.admin import Operation
from shared.protocol.events import EVENTS, EventType
from shared.protocol.topics import Topic
from tools.api import access, model
from tools.api.model import ROLES, Channel, Schema

_HEAD: Final = """\
# API

Generated from the code by `make docs`; a test fails when it is stale. The same for programs:
[asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3.0), where `send` and `receive` are from the point of view of a device,
of a machine with a claim, or of an admin's tool. Rules that a table cannot express, such as the order of messages,
are in [protocol](protocol.md); to build your own device, begin with [write your own device](write-a-device.md).

A `?` marks a field that may be absent. Lengths are in characters. "Who may" is read from the broker's
[ACL file](../deploy/mosquitto/acl).
"""
_ASKING: Final = """\
A request of MQTT 5, QoS 1, not retained, with Response Topic and Correlation Data. The answer is published to the
Response Topic, `{reply}`: `{{"ok": true, "result": ...}}`, or
`{{"ok": false, "error": ...}}` with a [Problem](#problem). Each request also has a `request_id` of 1 to 64
printable characters; where "once" is yes, it has one effect and one answer, however often it is sent.
Who may send requests: {writers}. Who reads the answers: {readers}.
"""
_TITLES: Final = {
    "device": "Messages of devices",
    "machine": "Messages of machines with a claim",
    "homeassistant": "Messages to Home Assistant",
    "admin": "Messages to admins",
}
_OBJECT: Final = "#/components/schemas/"
_RANGES: Final = (
    ("minLength", "maxLength", " characters"),
    ("minimum", "maximum", ""),
    ("minItems", "maxItems", " items"),
)
_ANY: Final = {"$ref": f"{_OBJECT}JsonValue"}
_BIGINT_MAX: Final = 2**63 - 1


def page() -> str:
    """Return the whole page."""
    schemas, rules = model.schemas(), access.current()
    shown: set[str] = set()
    parts = [_HEAD]
    for role, title in _TITLES.items():
        of_role = [channel for channel in model.channels() if channel.uses[0][0] == role]
        parts += [
            f"## {title}\n",
            f"{ROLES[role]}\n",
            _table(_CHANNEL_HEAD, (_row(one, role, rules) for one in of_role)),
        ]
        for channel in of_role:
            parts += _payload(channel, schemas)
            shown.update(() if channel.payload is None else [channel.payload.__name__])
    parts += _requests(schemas, rules)
    shown.update(operation.request.__name__ for operation in model.operations())
    parts += _objects(schemas, shown)
    return "\n".join(parts)


_CHANNEL_HEAD: Final = ("topic", "direction", "QoS", "retained", "bytes at most", "who may write", "who may read")


def _row(channel: Channel, role: str, rules: list[access.Rule]) -> list[str]:
    topic = channel.topic
    directions = {"send": f"{role} →", "receive": f"→ {role}"}
    return [
        f"[`{topic.template}`](#{channel.name.lower()})",
        ", ".join(directions[action] for used_by, action in channel.uses if used_by == role),
        str(topic.qos),
        "yes" if topic.retain else "no",
        str(topic.max_bytes),
        *_who(topic, rules),
    ]


def _who(topic: Topic[Any], rules: list[access.Rule]) -> tuple[str, str]:
    writers, readers = (access.allowed(topic.template, kind, rules) for kind in ("write", "read"))
    return ", ".join(writers), ", ".join(readers)


def _payload(channel: Channel, schemas: dict[str, Schema]) -> Iterator[str]:
    yield f"### {channel.name}\n"
    yield f"`{channel.topic.template}`\n"
    if channel.payload is None:
        yield f"{model.description(channel.topic.model)}\n"
    else:
        yield from _described(schemas[channel.payload.__name__])
    if channel.topic is topics.EVENT:
        yield _table(("event", "when", "of", "data"), (_event_row(event, schemas) for event in EVENTS.values()))


def _event_row(event: EventType[Any, Any], schemas: dict[str, Schema]) -> list[str]:
    name = event.facts.__name__
    return [
        f"`{event.name}`",
        _inline(event.when),
        event.about,
        f"[{name}](#{name.lower()}){_fields(schemas[name])}",
    ]


def _fields(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    names = [f"`{name}`{'' if name in required else '?'}" for name in schema["properties"]]
    return f": {', '.join(names)}" if names else ""


def _requests(schemas: dict[str, Schema], rules: list[access.Rule]) -> Iterator[str]:
    writers, _ = _who(admin.MODEL_LIST.topic, rules)
    _, readers = _who(admin.REPLY, rules)
    yield "## Requests of admins\n"
    yield _ASKING.format(reply=admin.REPLY.template, writers=writers, readers=readers)
    head = ("request, below `mdm/v1/admin/{account}`", "asks", "from role", "once", "result")
    yield _table(head, (_operation_row(operation) for operation in model.operations()))
    for operation in model.operations():
        schema = schemas[operation.request.__name__]
        yield f"### {operation.name}\n"
        yield from _described(schema, without="request_id")


def _operation_row(operation: Operation[Any, Any]) -> list[str]:
    name = operation.result.__name__
    return [
        f"[`{operation.name.replace('.', '/')}`](#{operation.name.replace('.', '')})",
        _inline(model.summary(operation.request)),
        operation.role.value,
        "yes" if operation.once else "no",
        f"[{name}](#{name.lower()})",
    ]


def _objects(schemas: dict[str, Schema], shown: set[str]) -> Iterator[str]:
    yield "## Objects\n"
    yield "The parts of results and other payloads.\n"
    for name, schema in schemas.items():
        if name not in shown and name != "JsonValue":
            yield f"### {name}\n"
            yield from _described(schema)


def _described(schema: Schema, *, without: str | None = None) -> Iterator[str]:
    if "description" in schema:
        yield f"{schema['description']}\n"
    if "enum" in schema:
        yield f"One of {_values(schema['enum'])}.\n"
    required = set(schema.get("required", ()))
    fields = {name: field for name, field in schema.get("properties", {}).items() if name != without}
    if fields:
        yield _table(
            ("field", "type", "limits"),
            (
                [f"`{name}`{'' if name in required else '?'}", _inline(_type(field)), _inline(_limits(field))]
                for name, field in fields.items()
            ),
        )
    elif "properties" in schema:
        yield "No fields of its own.\n"


def _type(field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].removeprefix(_OBJECT)
        return "any JSON" if field == _ANY else f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(kind) for kind in field["anyOf"])
    if "enum" in field or "const" in field:
        return _values(field["enum"] if "enum" in field else [field["const"]])
    return _plain_type(field)


def _plain_type(field: Schema) -> str:
    kind, values = field.get("type", "any JSON"), field.get("additionalProperties")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if isinstance(values, dict) and values != _ANY:
        return f"object of {_type(values)}"
    return f"{kind} ({field['format']})" if "format" in field else str(kind)


def _limits(field: Schema) -> str:
    if "anyOf" in field:
        return "; ".join(filter(None, map(_limits, field["anyOf"])))
    own = [*_ranges(field), *([f"`{field['pattern']}`"] if "pattern" in field else [])]
    if "items" in field and (each := _limits(field["items"])):
        own.append(f"each {each}")
    if "default" in field and field["default"] is not None:
        own.append(f"default `{json.dumps(field['default'])}`")
    if "description" in field:
        own.append(field["description"])
    return ", ".join(own)


def _ranges(field: Schema) -> Iterator[str]:
    for least, most, unit in _RANGES:
        low, high = field.get(least), field.get(most)
        if high is not None:
            least_said = "at most" if unit and not low else f"{low or 0} to"
            yield f"{least_said} {'2^63 - 1' if high == _BIGINT_MAX else high}{unit}"
        elif low is not None:
            yield f"at least {low}{unit}"


def _values(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _inline(text: str) -> str:
    """Return a text escaped for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
