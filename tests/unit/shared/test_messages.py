from __future__ import annotations

import base64
import inspect
import json
import typing
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from shared.esp32.chips import CHIP_IDS
from shared.protocol import admin, messages
from shared.protocol.admin.notifications import OF_DEVICES
from shared.protocol.topics import Topic

SECRET = "secret-that-nobody-may-see-in-any-log-files"
ID = UUID("7b1f1d5e-7c7e-4b53-a6f5-0d2d8cf3b4f1")
SHA256 = "ab" * 32
CHARACTERS = st.characters(codec="utf-8")
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def documents(below: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), below, max_size=3
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    lambda below: st.lists(below, max_size=3) | documents(below),
    max_leaves=8,
)
SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    UUID: st.uuids(),
    AwareDatetime: st.datetimes(timezones=ZONES),
    messages.LogTime: st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=ZONES),  # noqa: DTZ001 - as st.datetimes wants it
    type(None): st.none(),
    admin.Chip: st.sampled_from(list(CHIP_IDS)),
    messages.Sha256: st.binary(min_size=32, max_size=32).map(bytes.hex),
    messages.Ssid: st.text(CHARACTERS.filter(lambda one: one != "\0"), min_size=1, max_size=8),
    messages.WifiPassword: st.just("")
    | st.from_regex(r"[\x20-\x7e]{8,63}", fullmatch=True)
    | st.from_regex(r"[0-9A-Fa-f]{64}", fullmatch=True),
    messages.Line: st.text(
        st.characters(codec="utf-8", exclude_characters="".join(map(chr, [*range(32), 127]))), max_size=200
    ),
}
LIMITS = {
    "ge": "min_value",
    "le": "max_value",
    "min_length": "min_size",
    "max_length": "max_size",
    "pattern": "pattern",
    "multiple_of": "multiple_of",
}
ONE_OF: dict[type[BaseModel], list[str]] = {
    messages.RotationSecret: ["secret", "jwe"],
    messages.ConnectionOffer: ["profile", "jwe"],
}
OFFER: dict[str, Any] = {
    "sha256": SHA256,
    "size_bytes": 1,
    "version": "1",
    "chunk_size_bytes": 1,
    "window": 1,
}


def limits(rule: object) -> dict[str, Any]:
    return {ours: getattr(rule, theirs) for theirs, ours in LIMITS.items() if hasattr(rule, theirs)}


def constrained(base: type, extras: tuple[object, ...]) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911
    """Values of an annotated type, as its annotations limit them."""
    rules: dict[str, Any] = {}
    for field in (extra for extra in extras if isinstance(extra, FieldInfo)):
        for rule in field.metadata:
            rules |= limits(rule)
    if typing.get_origin(base) is list:
        return st.lists(values(typing.get_args(base)[0]), min_size=rules.get("min_size", 0), max_size=3)
    if base is int:
        step = rules.pop("multiple_of", 1)
        return st.integers(**{name: limit // step for name, limit in rules.items()}).map(lambda n: n * step)
    if inspect.isclass(base) and issubclass(base, Enum):
        return st.sampled_from(list(base))
    if base is float:  # written as it was, in few decimals
        return st.integers(-(10**9), 10**9).map(lambda n: n / 4)
    if base is bytes:
        least, most = rules.get("min_size", 0), min(100, rules.get("max_size", 100))
        return st.binary(min_size=least, max_size=most).map(base64.b64encode)
    if base is str and "pattern" in rules:
        exact = rules["pattern"].replace("$", r"\Z")
        limit = rules.get("max_size", 100)
        return st.from_regex(exact, alphabet=CHARACTERS).filter(lambda text: len(text) <= limit)
    if base is str:
        return st.text(CHARACTERS, **rules)
    if typing.get_origin(base) in {Union, UnionType}:
        return values(base)
    return documents(JSON)


def values(hint: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401, PLR0911
    """Values that a field of this type takes."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in SIMPLE:
        return SIMPLE[hint]
    if origin is typing.Annotated:
        return constrained(parts[0], hint.__metadata__)
    if origin in (Union, UnionType):
        return st.one_of([values(part) for part in parts])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is list:
        return st.lists(values(parts[0]), max_size=3)
    if origin is dict and typing.get_origin(parts[0]) in {Literal, typing.Annotated}:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=3)
    if origin is dict:
        return documents(JSON)
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if inspect.isclass(hint) and issubclass(hint, BaseModel):
        return instances(hint)
    return constrained(hint, ())


@cache
def instances(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Valid messages of a model; made once, as that takes longer than an example."""
    if issubclass(model, RootModel):
        return values(model.model_fields["root"].annotation).map(model)
    hints = typing.get_type_hints(model, include_extras=True)
    fields = {name: values(hints[name]) for name in model.model_fields}
    optional = {name for name, field in model.model_fields.items() if not field.is_required()}
    if model is admin.NotificationAdd:
        fields["condition"] = st.sampled_from(sorted(OF_DEVICES))  # others select no devices
    required = {name: strategy for name, strategy in fields.items() if name not in optional}
    if model in ONE_OF:
        given_one = st.sampled_from(ONE_OF[model]).flatmap(
            lambda name: st.fixed_dictionaries({**required, name: given_value(fields[name])})
        )
        return given_one.map(lambda facts: model(**facts))
    if model is messages.FirmwareOffer:
        names = ("sha256", "size_bytes", "version", "chunk_size_bytes", "window")
        whole = st.fixed_dictionaries(
            {name: given_value(fields[name]) for name in names}, optional={"request_id": fields["request_id"]}
        )
        nothing = st.fixed_dictionaries({"up_to_date": st.just(value=True), "request_id": fields["request_id"]})
        return (whole | nothing).map(lambda facts: model(**facts))
    if model is messages.ClaimAnswer:
        granted = st.fixed_dictionaries(
            {"uid": fields["uid"], "outcome": st.just("granted"), "jwe": given_value(fields["jwe"])}
        )
        withheld = st.fixed_dictionaries(
            {"uid": fields["uid"], "outcome": st.sampled_from(["pending", "refused"])},
            optional={"reason": fields["reason"]},
        )
        return (granted | withheld).map(lambda facts: model(**facts))
    if model is admin.RotationCancel or issubclass(model, admin.Selection | admin.ConnectionTarget):
        chosen = optional & {"device", "all", "tag", "model"}
        others = {name: fields[name] for name in optional - chosen}
        by_group = {name: given_value(fields[name]) for name in chosen & {"tag", "model"}}
        one = st.fixed_dictionaries({**required, "device": given_value(fields["device"])}, optional=others)
        with_all = others if issubclass(model, admin.ConnectionTarget) else others | by_group
        every = st.fixed_dictionaries({**required, "all": st.just(value=True)}, optional=with_all)
        some = [
            st.fixed_dictionaries({**required, name: by_group[name]}, optional=others) for name in sorted(by_group)
        ]
        return st.one_of(one, every, *some).map(lambda facts: model(**facts))
    if model is admin.RolloutPlan:
        fields["waves"] = st.lists(st.sampled_from(["1", "20", "10%", "100%"]), min_size=1, max_size=3)
        fields["window"] = st.sampled_from([None, "02:00-05:00", "22:30-00:15"])
        fields["zone"] = st.sampled_from(["UTC", "Europe/Berlin"])
    if model is admin.RolloutStart:
        fields["force"] = st.just(value=False)
    drawn = st.fixed_dictionaries(required, optional={name: fields[name] for name in optional})
    return drawn.map(lambda facts: model(**facts))


def given_value(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return strategy.filter(lambda value: value is not None)


def models(module: object) -> list[type[BaseModel]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, BaseModel)
        and value is not BaseModel
        and not value.__name__.startswith("RootModel")
    ]


MESSAGES = models(messages)
RESULTS = [model for model in models(admin) if issubclass(model, admin.Result)]
OTHERS = [model for model in MESSAGES + models(admin) if model not in RESULTS]


@pytest.mark.parametrize("model", OTHERS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_message_comes_back_from_the_wire_as_it_went_and_unknown_fields_are_ignored(
    model: type[BaseModel], data: st.DataObject
) -> None:
    message = data.draw(instances(model))
    topic = Topic("any", model)
    sent = topic.encode(message)

    assert topic.decode(sent) == message
    if model in MESSAGES and not issubclass(model, RootModel):
        # Of a newer version, with a field that this one does not know.
        newer = json.loads(sent) | {"brand_new": [1, {"a": None}]}
        assert topic.decode(json.dumps(newer).encode()) == message


@pytest.mark.parametrize("model", RESULTS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_result_comes_back_from_its_answer_as_it_went(model: type[BaseModel], data: st.DataObject) -> None:
    result = data.draw(instances(model))
    answer = admin.Answer(ok=True, result=result.model_dump(mode="json"))

    assert model.model_validate(admin.REPLY.decode(admin.REPLY.encode(answer)).result) == result


def test_every_message_of_the_protocol_is_tried() -> None:
    assert {messages.Status, messages.RotationSecret, messages.Event, admin.UploadChunk, admin.Answer} <= set(
        OTHERS
    )
    assert {admin.Package, admin.DeviceView, admin.Upload} <= set(RESULTS)


@pytest.mark.parametrize("model", models(messages))
def test_a_message_of_the_protocol_cannot_be_changed(model: type[BaseModel]) -> None:
    assert model.model_config["frozen"] is True


@pytest.mark.parametrize("facts", [{}, {"secret": SECRET, "jwe": "a.b.c.d.e"}, {"secret": None, "jwe": None}])
def test_a_secret_is_sent_plain_or_sealed_and_never_both(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one of secret and jwe must be given"):
        messages.RotationSecret(rotation_id=ID, generation=1, **facts)


@pytest.mark.parametrize("missing", sorted(OFFER))
def test_an_offer_without_one_of_its_facts_is_refused(missing: str) -> None:
    with pytest.raises(ValidationError, match="an offer names the image's"):
        messages.FirmwareOffer(**{name: fact for name, fact in OFFER.items() if name != missing})


@pytest.mark.parametrize("present", sorted(OFFER))
def test_up_to_date_says_nothing_of_an_image(present: str) -> None:
    with pytest.raises(ValidationError, match="an offer names the image's"):
        messages.FirmwareOffer(up_to_date=True, **{present: OFFER[present]})


def test_an_offer_is_whole_or_says_up_to_date() -> None:
    assert messages.FirmwareOffer(**OFFER).sha256 == SHA256
    assert messages.FirmwareOffer(up_to_date=True).sha256 is None
    with pytest.raises(ValidationError, match="an offer names the image's"):
        messages.FirmwareOffer()
    with pytest.raises(ValidationError, match="an offer names the image's"):
        messages.FirmwareOffer(up_to_date=True, **OFFER)


@pytest.mark.parametrize(
    "message",
    [
        messages.RotationSecret(rotation_id=ID, generation=1, secret=SECRET),
        messages.RotationSecret(rotation_id=ID, generation=1, jwe=SECRET),
        messages.RotationAck(rotation_id=ID, proof=SHA256, token=SECRET),
        messages.ClaimAnswer(uid="a0b1c2d3e4f5", outcome=messages.ClaimOutcome.GRANTED, jwe=SECRET),
        admin.ClaimAdd(request_id="r", model="lamp", password=SECRET),
        admin.Package(
            client_id="iotdevice-a-abcdefgh",
            device_key="abcdefgh",
            secret=SECRET,
            secret_generation=1,
            token_url="http://keycloak/token",
            mqtt_host="broker",
            mqtt_port=8883,
            mqtt_tls=True,
            ca_certificate=None,
        ),
    ],
    ids=["secret", "jwe", "ack", "claim answer", "claim add", "package"],
)
def test_what_is_printed_of_a_message_does_not_show_the_secret_in_it(message: BaseModel) -> None:
    assert SECRET in message.model_dump_json()
    assert SECRET not in repr(message)
    assert SECRET not in str(message)


def test_a_piece_of_an_image_has_a_limit_that_counts_its_own_bytes() -> None:
    def chunk(size: int) -> admin.UploadChunk:
        return admin.UploadChunk(request_id="r", upload_id=ID, offset=0, data=base64.b64encode(bytes(size)))

    largest = chunk(messages.MAX_CHUNK_BYTES)
    topic = admin.UPLOAD_CHUNK.topic

    assert topic.decode(topic.encode(largest)).data == bytes(messages.MAX_CHUNK_BYTES)
    with pytest.raises(ValidationError, match="data"):
        chunk(messages.MAX_CHUNK_BYTES + 1)


@pytest.mark.parametrize("at", [datetime(2025, 1, 1), "2025-01-01T00:00:00"])  # noqa: DTZ001 - naive on purpose
def test_a_time_without_a_zone_is_refused(at: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValidationError, match="should have timezone info"):
        messages.Event(event_id=ID, at=at)


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"]
)
def test_a_line_of_a_time_that_cannot_be_stored_is_refused(time: str) -> None:
    with pytest.raises(ValidationError, match="time"):
        messages.LogLine.model_validate({"level": "info", "message": "late", "time": time})
