from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
import yaml

from dev.servers.tools import MissingToolError, find_node
from shared.protocol import admin, topics
from shared.protocol.events import EVENTS, RotationOfferFacts
from tools import vectors
from tools.api import access, asyncapi, model, specification
from tools.api.page import page

CHECK = Path(__file__).parents[2] / "asyncapi"
ID = UUID("0198c1f2-0000-7000-8000-000000000001")
DECLARED = [*topics.TOPICS.values(), *topics.OWN.values()]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi.document()


def test_the_official_parser_finds_nothing_wrong_but_in_a_document_that_is(document: dict[str, Any]) -> None:
    dangling = {"device.none": {"action": "send", "channel": {"$ref": "#/channels/none"}}}
    wrong = {"asyncapi": document["asyncapi"], "info": document["info"], "operations": dangling}
    of_ours, of_wrong = parsed(specification.text(), yaml.safe_dump(wrong))
    assert of_ours["found"] == []
    assert len(of_ours["operations"]) == len(document["operations"])
    assert of_wrong["found"] != []


def test_each_topic_is_a_channel_and_each_operation_a_request(document: dict[str, Any]) -> None:
    addresses = [channel["address"] for channel in document["channels"].values()]
    operations = model.operations()
    wanted = [*DECLARED, admin.REPLY, *(operation.topic for operation in operations)]
    # AsyncAPI does not know the wildcard of MQTT: it has a parameter for it.
    assert sorted(addresses) == sorted(topic.template.replace("#", "{levels}") for topic in wanted)


def test_what_a_device_says_it_sends_and_what_it_is_told_it_receives(document: dict[str, Any]) -> None:
    actions = {
        document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["address"]: operation["action"]
        for name, operation in document["operations"].items()
        if name.startswith("device.")
    }
    own = {
        "app/{client_id}/up/{levels}": "send",
        "app/{client_id}/down/{levels}": "receive",
        "homeassistant/{component}/{client_id}/{object_id}/config": "send",
    }
    assert actions == own | {
        topic.template: "send" if "/up/" in topic.template else "receive"
        for topic in DECLARED
        if "/d/" in topic.template
    }


def test_only_what_is_declared_as_retained_is_so(document: dict[str, Any]) -> None:
    retained = {name for name, one in document["operations"].items() if one["bindings"]["mqtt"]["retain"]}
    assert retained == {
        "device.status",
        "admin.status",
        "admin.serviceStatus",
        "homeassistant.homeassistantDiscovery",
        "homeassistant.homeassistantUpdate",
        "homeassistant.homeassistantDiagnostics",
        "homeassistant.homeassistantEntity",
        "device.homeassistantEntity",
    }


def test_a_request_is_answered_with_its_own_result_or_a_refusal(document: dict[str, Any]) -> None:
    reply = document["operations"]["admin.registryDeviceAdd"]["reply"]
    names = [message["$ref"].rpartition("/")[2] for message in reply["messages"]]
    assert names == ["registryDeviceAddAnswer", "refusal"]
    payload = document["components"]["messages"]["registryDeviceAddAnswer"]["payload"]
    assert payload["properties"]["result"] == {"$ref": "#/components/schemas/DeviceView"}


def test_a_field_that_may_be_absent_is_not_required_and_has_its_limits(document: dict[str, Any]) -> None:
    status = document["components"]["schemas"]["Status"]
    assert status["required"] == ["online"]
    assert status["properties"]["rssi_dbm"] == {"type": "integer", "minimum": -200, "maximum": 100}
    view = document["components"]["schemas"]["DeviceView"]
    assert {"type": "null"} in view["properties"]["last_seen_at"]["anyOf"]


@pytest.mark.parametrize(
    ("name", "field"), [("Config", "unchanged"), ("FirmwareOffer", "up_to_date"), ("Devices", "next")]
)
def test_what_a_service_always_says_is_required(document: dict[str, Any], name: str, field: str) -> None:
    schema = document["components"]["schemas"][name]
    assert field in schema["required"]
    assert "default" not in schema["properties"][field]


def test_what_an_asker_may_leave_out_has_its_default(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["ClaimAdd"]
    assert "uses" not in schema["required"]
    assert schema["properties"]["uses"]["default"] == 1


def test_what_is_said_as_null_is_not_absent(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {"update_percentage"} == {*schemas["Update"]["required"]} - {"in_progress"}
    assert {"type": "null"} in schemas["Diagnostics"]["properties"]["rssi_dbm"]["anyOf"]
    assert "rssi_dbm" in schemas["Diagnostics"]["required"]


def test_real_messages_fit_the_schemas_and_others_do_not(document: dict[str, Any]) -> None:
    for said in vectors.rotation()["messages"]:
        (channel,) = [one for one in model.channels() if one.topic.match(said["topic"])]
        schema = {
            **document["components"]["messages"][channel.name]["payload"],
            "components": document["components"],
        }
        payload = json.loads(said["payload"])
        check = jsonschema.Draft7Validator(schema)
        assert list(check.iter_errors(payload)) == [], channel.name
        for field in payload:
            assert not check.is_valid({**payload, field: {"not": ["right"]}}) or field == "document", field


def test_an_event_fits_its_message_and_no_other_does(document: dict[str, Any]) -> None:
    assert len(document["channels"]["event"]["messages"]) == len(EVENTS)
    check = jsonschema.Draft7Validator(
        {
            **document["components"]["messages"]["event.rotation.offered"]["payload"],
            "components": document["components"],
        }
    )
    facts = RotationOfferFacts(rotation_id=ID, generation=2, restorable=True).to_data()
    told = {
        "event_id": str(ID),
        "at": "2026-01-02T03:00:00Z",
        "client_id": "iotdevice-blink-mw9agw5m",
        "data": facts,
    }
    assert check.is_valid(told)
    assert not check.is_valid({field: value for field, value in told.items() if field != "client_id"})
    for field in facts:
        assert not check.is_valid({**told, "data": {**facts, field: ["not right"]}})


def test_each_event_is_on_the_page_with_what_it_says() -> None:
    text = page()
    for event in EVENTS.values():
        row = re.search(rf"^\| `{event.name}` \|.*$", text, re.MULTILINE)
        assert row
        assert event.when in row[0]
        assert all(f"`{field}`" in row[0] for field in event.facts.model_fields)


def test_each_link_of_the_page_leads_to_one_heading() -> None:
    text = page()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    headings = Counter(re.sub(r"[^a-z0-9_ -]", "", title.lower()) for title in titles)
    links = set(re.findall(r"\(#([^)]+)\)", text))
    assert len(links) > 100
    assert {link for link in links if headings[link] != 1} == set()


def test_the_page_has_each_field_of_each_payload() -> None:
    text = page()
    for name, schema in model.schemas().items():
        for field in schema.get("properties", {}):
            assert f"| `{field}`" in text or field == "request_id", (name, field)


RULES = """\
# a comment
pattern write mdm/v1/d/%u/up/#
pattern read mdm/v1/claim/%u/answer/%c
user one
topic readwrite mdm/v1/d/+/up/#
topic read mdm/v1/replies/one/#
user two
topic write mdm/v1/d/+/up/status
"""


@pytest.mark.parametrize(
    ("template", "kind", "who"),
    [
        ("mdm/v1/d/{client_id}/up/status", "write", ["the device itself", "one", "two"]),
        ("mdm/v1/d/{client_id}/up/status", "read", ["one"]),
        ("mdm/v1/d/{client_id}/up/config/get", "write", ["the device itself", "one"]),
        ("mdm/v1/d/{client_id}/down/config", "write", []),
        ("mdm/v1/claim/{claim_id}/answer/{uid}", "read", ["machines of the claim"]),
        ("mdm/v1/replies/{account}/{client_id}", "read", ["one"]),
        ("mdm/v1/d/{client_id}", "read", []),
    ],
)
def test_who_may_do_what_is_read_from_the_acl_file(template: str, kind: access.Access, who: list[str]) -> None:
    assert access.allowed(template, kind, access.rules(RULES)) == who


def test_somebody_may_write_and_read_each_topic() -> None:
    given = access.current()
    for channel in model.channels():
        for kind in ("write", "read"):
            assert access.allowed(channel.topic.template, kind, given), (channel.name, kind)


def parsed(*documents: str) -> list[dict[str, Any]]:
    """Return what the parser of @asyncapi/parser says of each document."""
    try:
        node = find_node()
    except MissingToolError as error:
        pytest.skip(str(error))
    if not (CHECK / "node_modules/@asyncapi/parser").exists():
        pytest.skip("@asyncapi/parser is not installed: run scripts/bootstrap where npm reaches its registry")
    text = json.dumps(documents)
    done = subprocess.run(
        [node, "check.js"], cwd=CHECK, input=text, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout, done.stderr
    return list(json.loads(done.stdout))
