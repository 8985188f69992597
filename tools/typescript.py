"""The admin protocol as TypeScript for the web page in web/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.protocol import admin, events, messages, topics
from shared.protocol.admin import Operation

_HEAD: Final = """\
// Written by `make docs` from shared/protocol. Do not edit.

import type { LosslessNumber } from "lossless-json";

/** An admin operation of a service; the request and the result are only types. */
export interface Operation<Asked, Answered> {
  readonly service: string;
  readonly noun: string;
  readonly verb: string;
  /** The least role of an account that may ask for it. */
  readonly role: Role;
  /** These two are never present: they carry the types. */
  readonly request?: Asked;
  readonly result?: Answered;
}

/** An event with the name in its topic. */
export interface Told<Noun, Verb, ClientId, Facts> extends Omit<Event, "client_id" | "data"> {
  readonly noun: Noun;
  readonly verb: Verb;
  readonly client_id: ClientId;
  readonly data: Facts;
}

/** A number that JavaScript would write in another way is a LosslessNumber. */
export type Json = null | boolean | number | LosslessNumber | string | Json[] | { [name: string]: Json };
"""
_SCALARS: Final = {"integer": "number", **{name: name for name in ("string", "number", "boolean", "null")}}
_REF: Final = "#/$defs/"
_CLIENT_IDS: Final[Mapping[type[events.EventType[Any, Any]], str]] = {
    events.DeviceEvent: "string",
    events.FleetEvent: "undefined",
    events.SelectionEvent: "string | undefined",
}


def render() -> str:
    """Return the text of protocol.ts."""
    operations = dict(sorted(admin.OPERATIONS.items()))
    requests = {it.request for it in operations.values()}
    results = {it.result for it in operations.values()}
    others: set[type[BaseModel]] = {admin.Answer, messages.Event, messages.ServiceStatus}
    answered = _definitions(results, mode="serialization")
    for schema in answered.values():
        # An answer has all its fields, null or not.
        schema["required"] = list(schema.get("properties", {}))
    # A model of both directions is declared as in requests, where fields with defaults are optional.
    definitions = {
        **answered,
        **_definitions(others, mode="serialization"),
        **_definitions({it.facts for it in events.EVENTS.values()}, mode="validation"),
        **_definitions(requests, mode="validation"),
    }
    blocks = [_HEAD]
    blocks += [_declaration(name, schema) for name, schema in sorted(definitions.items())]
    blocks += [_operation(name, it) for name, it in operations.items()]
    blocks.append(_events())
    blocks.append(_topics())
    return "\n".join(blocks)


def _definitions(models: set[type[Any]], *, mode: str) -> dict[str, dict[str, Any]]:
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema([(model, mode) for model in ordered])  # type: ignore[misc]
    found: dict[str, dict[str, Any]] = schema["$defs"]
    return found


def _declaration(name: str, schema: Mapping[str, Any]) -> str:
    text = _comment(schema.get("description"), "")
    if schema.get("type") != "object":
        return f"{text}export type {name} = {_type(schema)};\n"
    required = set(schema.get("required", ()))
    # A client generates a new request_id for each request.
    fields = {key: it for key, it in schema.get("properties", {}).items() if key != "request_id"}
    if not fields:
        return f"{text}export type {name} = Record<never, never>;\n"
    lines = [f"  {key}{'' if key in required else '?'}: {_type(it)};\n" for key, it in fields.items()]
    return f"{text}export interface {name} {{\n{''.join(lines)}}}\n"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return "Json" if name == "JsonValue" else str(name)
    if "const" in schema or "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(it) for it in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        inner = _type(schema.get("items", {}))
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {_type(values) if isinstance(values, dict) else 'Json'}>"
    return _SCALARS[kind] if kind else "Json"


def _operation(name: str, operation: Operation[Any, Any]) -> str:
    types = f"{operation.request.__name__}, {operation.result.__name__}"
    names = ("service", "noun", "verb", "role")
    parts = ", ".join(f'{it}: "{getattr(operation, it)}"' for it in names)
    return f"export const {name}: Operation<{types}> = {{ {parts} }};"


def _events() -> str:
    told = (f"  /** {it.when} */\n  | {_told(it)}" for it in events.EVENTS.values())
    return "\nexport type NamedEvent =\n" + "\n".join(told) + ";"


def _told(event: events.EventType[Any, Any]) -> str:
    return f'Told<"{event.noun}", "{event.verb}", {_CLIENT_IDS[type(event)]}, {event.facts.__name__}>'


def _topics() -> str:
    templates = {
        "ADMIN_TOPIC": f"{topics.PREFIX}/admin/{{account}}/{{service}}/{{noun}}/{{verb}}",
        "REPLY_TOPIC": admin.REPLY.template,
        "EVENT_TOPIC": topics.EVENT.template,
        "SERVICE_STATUS_TOPIC": topics.SERVICE_STATUS.template,
    }
    return "\n" + "".join(f'export const {name} = "{template}";\n' for name, template in templates.items())


def _comment(text: str | None, indent: str) -> str:
    lines = list(_lines(text or ""))
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


def _lines(text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        yield re.sub(r"\*/", "* /", line.strip())
