"""The API from the outside: what each kind of client sends and receives, read from the declarations.

The point of view is that of the application, a client of the broker: a device, a machine with a claim, an admin's
tool, or Home Assistant. What it publishes is `send`, what it subscribes to is `receive`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from shared.protocol import admin, topics
from shared.protocol.admin import Operation
from shared.protocol.events import EVENTS
from shared.protocol.topics import Topic

Action = Literal["send", "receive"]
Schema = dict[str, Any]

ROLES: Final = {
    "device": "A device: it publishes below `d/{client_id}/up` and subscribes below `d/{client_id}/down`.",
    "machine": "A machine without an identity, which requests one by a claim.",
    "refused_device": "A device that the broker refuses with all its secrets, and which recovers by its key.",
    "consumer": "A program that uses the devices' own topics, with an account of the role `app`.",
    "homeassistant": "Home Assistant, which receives the devices if the setting `MDM_HOMEASSISTANT` is on.",
    "admin": "An admin's tool, such as `mdm`: it sends requests to services, and receives events.",
}
PARAMETERS: Final = {
    "client_id": "The device's client id, which is also its account; in a reply topic, the tool's MQTT client id.",
    "claim_id": "The claim, which is also its account.",
    "uid": "The machine's uid, which is also its MQTT client id.",
    "nonce": "A random value of the device for its request, then also its MQTT client id.",
    "account": "The admin's own account.",
    "sha256": "SHA-256 of the image.",
    "offset": "Where the chunk begins, in bytes.",
    "noun": "The subject of an event.",
    "verb": "What happened to the subject.",
    "name": "The service: `registry`, `rotator` or `firmware`.",
    "instance": "Host name and process id of the service.",
    "levels": "One or more levels, which the device's firmware and its consumers choose.",
    "component": "The kind of entity, as Home Assistant names it, such as `sensor`; or `device`.",
    "object_id": "The entity: letters, digits, `_` and `-`, chosen by the firmware.",
}
_REFERENCE: Final = "#/components/schemas/{model}"
"""A filter over other topics."""
_ALSO_READ_BY_ADMINS: Final = {topics.STATUS.template}
_OWN: Final[Mapping[Topic[Any], tuple[tuple[str, Action], ...]]] = {
    topics.APP_UP: (("device", "send"), ("consumer", "receive"), ("homeassistant", "receive")),
    topics.APP_DOWN: (("device", "receive"), ("consumer", "send"), ("homeassistant", "send")),
    topics.HOMEASSISTANT_ENTITY: (("device", "send"), ("homeassistant", "receive")),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic with a name, and its uses."""

    name: str
    topic: Topic[Any]
    uses: tuple[tuple[str, Action], ...]

    @property
    def address(self) -> str:
        """The topic, with a name for each part that varies."""
        return self.topic.template.replace("#", "{levels}")

    @property
    def parameters(self) -> list[str]:
        """The names in the topic."""
        return re.findall(r"\{(\w+)\}", self.address)

    @property
    def payload(self) -> type[BaseModel] | None:
        """The payload's model; None for bytes."""
        model = self.topic.model
        return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def channels() -> list[Channel]:
    """Return all channels except those of admin requests, in the order of their declaration."""
    protocol = [Channel(camel(name), topic, _uses(topic)) for name, topic in topics.TOPICS.items()]
    return [*protocol, *(Channel(camel(name), topic, _OWN[topic]) for name, topic in topics.OWN.items())]


def operations() -> list[Operation[Any, Any]]:
    """Return the operations of admins, by service, noun and verb."""
    return sorted(admin.OPERATIONS.values(), key=lambda operation: operation.name)


def schemas() -> dict[str, Schema]:
    """Return the JSON Schemas of all payloads by name, each with references to the others."""
    models: dict[type[BaseModel], None] = dict.fromkeys(_models())
    _, document = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE, schema_generator=_Untitled
    )
    found: dict[str, Schema] = document["$defs"]
    results = {kind.__name__ for kind in _kinds(admin.Result)}
    said = _said_by_services()
    for name, schema in found.items():
        if name not in results:
            _leave_out_nulls(schema)
        if name in results or name in said:
            _always_say_defaults(schema)
    return dict(sorted(found.items()))


def description(payload: object) -> str:
    """Return the docstring of a declared payload, or a description of raw bytes."""
    return "A chunk, as raw bytes." if payload is bytes else inspect.getdoc(payload) or ""


def summary(payload: object) -> str:
    """Return the first line of the description as a sentence, without the topic in front of it."""
    first = description(payload).partition("\n")[0]
    text = re.sub(r"^`[^`]+`[^:`]*: ", "", first)
    return text[:1].upper() + text[1:]


def camel(name: str) -> str:
    """Return `SOME_NAME` or `some.name` as `someName`."""
    first, *rest = re.split(r"[._]", name.lower())
    return first + "".join(word.capitalize() for word in rest)


def _uses(topic: Topic[Any]) -> tuple[tuple[str, Action], ...]:
    levels = topic.template.removeprefix(f"{topics.PREFIX}/").split("/")
    if levels[:3] == ["d", "{client_id}", "up"]:
        also: tuple[tuple[str, Action], ...] = (("admin", "receive"),)
        return (("device", "send"), *(also if topic.template in _ALSO_READ_BY_ADMINS else ()))
    if levels[:3] == ["d", "{client_id}", "down"]:
        return (("device", "receive"),)
    if levels[0] == "recover":
        return (("refused_device", "send" if levels[-1] == "request" else "receive"),)
    if levels[0] == "claim":
        return (("machine", "send" if levels[-1] == "request" else "receive"),)
    if levels[0] == "homeassistant":
        return (("homeassistant", "receive"),)
    if levels[0] in {"events", "services"}:
        return (("admin", "receive"),)
    raise ValueError(f"{topic.template}: has no known user")


def _models() -> Iterator[type[BaseModel]]:
    for channel in channels():
        if channel.payload is not None:
            yield channel.payload
    for operation in operations():
        yield operation.request
        yield operation.result
    yield from (event.facts for event in EVENTS.values())
    yield admin.Problem
    yield admin.ClaimPackage


class _Untitled(GenerateJsonSchema):
    """Omits the titles of fields: they would only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - as pydantic declares it
        return False


def _kinds(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _leave_out_nulls(schema: Schema) -> None:
    """Describe each field that may be absent by its value if present: an absent one is left out, not null."""
    for field in schema.get("properties", {}).values():
        if "default" in field and field["default"] is None:
            del field["default"]
            kinds = [kind for kind in field.pop("anyOf", []) if kind != {"type": "null"}]
            field.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _said_by_services() -> set[str]:
    heard = [channel for channel in channels() if all(action == "receive" for _, action in channel.uses)]
    return {channel.payload.__name__ for channel in heard if channel.payload is not None}


def _always_say_defaults(schema: Schema) -> None:
    """Mark each field with a default as required: a service leaves out only absent values."""
    defaults = [name for name, field in schema.get("properties", {}).items() if "default" in field]
    for name in defaults:
        del schema["properties"][name]["default"]
    if defaults:
        schema["required"] = [*schema.get("required", ()), *defaults]
