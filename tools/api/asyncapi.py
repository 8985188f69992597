"""The API as an AsyncAPI 3.0 document, from the point of view of a client."""

from __future__ import annotations

from typing import Any, Final

from shared.protocol import admin, topics
from shared.protocol.admin import Operation
from shared.protocol.events import EVENTS, DeviceEvent, EventType
from tools.api import model
from tools.api.model import PARAMETERS, ROLES, Channel, Schema

_BINDING: Final = "0.2.0"
_SERVERS: Final = {
    "device": "devices",
    "machine": "claims",
    "refused_device": "claims",
    "consumer": "services",
    "homeassistant": "services",
    "admin": "services",
}
_DESCRIPTION: Final = """\
The messages between a device, a machine with a claim or an admin's tool and the services of device-mdm over MQTT.

The application of this document is what you build: a device, a machine with a claim, or an admin's tool; and Home
Assistant, if the integration is enabled. What it publishes is `send`, what it subscribes to is `receive`; the tag
of an operation names the application. Rules that a schema cannot express, such as the order of messages, are in
docs/protocol.md; for a device begin at docs/write-a-device.md.

Fields that are not required are left out when there is no value. Unknown fields are ignored; only in a
request of an admin are they an error.
"""
_CORRELATED: Final = {"location": "$message.header#/correlationData"}
_CORRELATION: Final = {"type": "string", "description": "Returned unchanged."}
_TRAITS: Final = {
    "request": {
        "headers": {
            "type": "object",
            "description": "Properties of MQTT 5.",
            "required": ["responseTopic", "correlationData"],
            "properties": {
                "responseTopic": {
                    "type": "string",
                    "description": f"A topic {admin.REPLY.template} of the same account.",
                },
                "correlationData": _CORRELATION,
            },
        },
        "correlationId": _CORRELATED,
    },
    "answer": {
        "headers": {"type": "object", "properties": {"correlationData": _CORRELATION}},
        "correlationId": _CORRELATED,
    },
}


def document() -> dict[str, Any]:
    """Return the whole document."""
    schemas = model.schemas()
    declared, operations = model.channels(), model.operations()
    said = {
        **{channel.name: _message(channel) for channel in declared if channel.topic is not topics.EVENT},
        **{_event_name(event): _event(event) for event in EVENTS.values()},
        **{model.camel(operation.name): _request(operation) for operation in operations},
        **{_answer_name(operation): _answer(operation) for operation in operations},
        "refusal": {
            "name": "refusal",
            "summary": "Why a request was refused.",
            "payload": {
                "type": "object",
                "required": ["ok", "error"],
                "properties": {"ok": {"const": False}, "error": _reference("schemas", "Problem")},
            },
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "device-mdm",
            "version": topics.PREFIX.rpartition("/")[2],
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": role, "description": text} for role, text in ROLES.items()],
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {
            **{channel.name: _channel(channel) for channel in declared},
            **{model.camel(operation.name): _request_channel(operation) for operation in operations},
            "reply": _reply_channel(operations),
        },
        "operations": {
            **{
                f"{role}.{channel.name}": _use(channel, role, action)
                for channel in declared
                for role, action in channel.uses
            },
            **{f"admin.{model.camel(operation.name)}": _ask(operation) for operation in operations},
        },
        "components": {
            "securitySchemes": {
                "account": {"type": "userPassword", "description": "The account in the broker and its password."}
            },
            "messageTraits": _TRAITS,
            "messages": said,
            "schemas": schemas,
        },
    }


def _servers() -> Schema:
    security = [_reference("securitySchemes", "account")]
    will = {
        "topic": topics.STATUS.template,
        "qos": topics.STATUS.qos,
        "message": '{"online":false}',
        "retain": topics.STATUS.retain,
    }
    return {
        "devices": {
            "host": "broker.example.org:8883",
            "protocol": "secure-mqtt",
            "description": "For devices. Host, port and certificate are in the provisioning package.",
            "security": security,
            "bindings": {
                "mqtt": {
                    "clientId": "{client_id}",
                    "cleanSession": False,
                    "lastWill": will,
                    "bindingVersion": _BINDING,
                }
            },
        },
        "claims": {
            "host": "broker.example.org:8884",
            "protocol": "secure-mqtt",
            "description": "For machines with a claim. Host, port and certificate are in the claim package.",
            "security": security,
            "bindings": {"mqtt": {"clientId": "{uid}", "cleanSession": True, "bindingVersion": _BINDING}},
        },
        "services": {
            "host": "broker.example.org:1883",
            "protocol": "mqtt",
            "protocolVersion": "5.0",
            "description": "For services, admins' tools and Home Assistant, on an inner network.",
            "security": security,
        },
    }


def _channel(channel: Channel) -> Schema:
    return {
        **_address(channel.topic, _SERVERS[channel.uses[0][0]]),
        "messages": {name: _reference("messages", name) for name in _message_names(channel)},
    }


def _request_channel(operation: Operation[Any, Any]) -> Schema:
    name = model.camel(operation.name)
    return {**_address(operation.topic, "services"), "messages": {name: _reference("messages", name)}}


def _reply_channel(operations: list[Operation[Any, Any]]) -> Schema:
    names = [*map(_answer_name, operations), "refusal"]
    return {
        **_address(admin.REPLY, "services"),
        "description": "The topic of answers: the Response Topic of the request.",
        "messages": {name: _reference("messages", name) for name in names},
    }


def _address(topic: topics.Topic[Any], server: str) -> Schema:
    shown = Channel("", topic, ())
    return {
        "address": shown.address,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "parameters": {name: {"description": PARAMETERS[name]} for name in shown.parameters},
        "x-max-bytes": topic.max_bytes,
    }


def _use(channel: Channel, role: str, action: str) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": model.summary(channel.topic.model),
        "tags": [{"name": role}],
        "bindings": _bindings(channel.topic),
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{name}"} for name in _message_names(channel)],
    }


def _ask(operation: Operation[Any, Any]) -> Schema:
    name = model.camel(operation.name)
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": model.summary(operation.request),
        "tags": [{"name": "admin"}],
        "bindings": _bindings(operation.topic),
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "reply": {
            "address": {"location": "$message.header#/responseTopic"},
            "channel": {"$ref": "#/channels/reply"},
            "messages": [
                {"$ref": f"#/channels/reply/messages/{answer}"} for answer in (_answer_name(operation), "refusal")
            ],
        },
        "x-once": operation.once,
    }


def _bindings(topic: topics.Topic[Any]) -> Schema:
    return {"mqtt": {"qos": topic.qos, "retain": topic.retain, "bindingVersion": _BINDING}}


def _message(channel: Channel) -> Schema:
    if channel.payload is None:
        payload: Schema = {"type": "string", "format": "binary", "maxLength": channel.topic.max_bytes}
        content = {"contentType": "application/octet-stream"}
    else:
        payload, content = _reference("schemas", channel.payload.__name__), {}
    return {"name": channel.name, "summary": model.summary(channel.topic.model), **content, "payload": payload}


def _message_names(channel: Channel) -> list[str]:
    return [*map(_event_name, EVENTS.values())] if channel.topic is topics.EVENT else [channel.name]


def _event(event: EventType[Any, Any]) -> Schema:
    own = {
        "type": "object",
        "required": ["client_id"] if isinstance(event, DeviceEvent) else [],
        "properties": {"data": _reference("schemas", event.facts.__name__)},
    }
    whole = _reference("schemas", "Event")
    return {"name": event.name, "summary": event.when, "payload": {"allOf": [whole, own]}}


def _event_name(event: EventType[Any, Any]) -> str:
    return f"event.{event.noun}.{event.verb}"


def _request(operation: Operation[Any, Any]) -> Schema:
    return {
        "name": model.camel(operation.name),
        "summary": model.summary(operation.request),
        "payload": _reference("schemas", operation.request.__name__),
        "traits": [_reference("messageTraits", "request")],
    }


def _answer(operation: Operation[Any, Any]) -> Schema:
    result = _reference("schemas", operation.result.__name__)
    return {
        "name": _answer_name(operation),
        "summary": model.summary(operation.result),
        "payload": {
            "type": "object",
            "required": ["ok", "result"],
            "properties": {"ok": {"const": True}, "result": result},
        },
        "traits": [_reference("messageTraits", "answer")],
    }


def _answer_name(operation: Operation[Any, Any]) -> str:
    return f"{model.camel(operation.name)}Answer"


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
