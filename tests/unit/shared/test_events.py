from __future__ import annotations

import inspect
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from dev.event_recorder import EventRecorder
from shared.errors import MessageRefusedError
from shared.protocol import events, messages, topics
from shared.protocol.admin import Role, RolloutPlan
from shared.protocol.events import EVENTS, EventType, Facts

ROOT = Path(__file__).parents[3]
SOURCES = ("services", "shared", "backup", "cli", "device", "deploy", "dev", "tools", "web/src")
ID = UUID("0198c1f2-0000-7000-8000-000000000001")
ROLLOUT: dict[str, Any] = {"rollout": 1, "model": "blink", "version": "1.1.0"}
COUNTS: dict[str, Any] = {"devices": 3, "already": 1, "unfit": 0}


def event(data: dict[str, object]) -> messages.Event:
    return messages.Event(event_id=uuid4(), at=datetime.now(UTC), data=data)


def test_each_event_has_its_own_name_which_its_constant_has_too() -> None:
    declared = {name: it for name, it in vars(events).items() if isinstance(it, EventType)}
    assert {name: it.name.upper().replace("/", "_") for name, it in declared.items()} == {
        it: it for it in declared
    }
    assert len(declared) == len(EVENTS)


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda it: it.name)
def test_an_event_says_when_it_is_told_and_of_what(event: EventType[Facts, str | None]) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z_]+", event.name)
    assert re.fullmatch(r"[A-Z].*\.", event.when)
    assert event.about
    assert inspect.getdoc(event.facts) != inspect.getdoc(Facts)


def test_no_name_of_an_event_stands_anywhere_else() -> None:
    names = re.compile(rf"""["'`]({"|".join(EVENTS)})["'`]""")
    made = {ROOT / "web/src/protocol.ts", Path(events.__file__)}
    sources = [
        it for folder in SOURCES for it in (ROOT / folder).rglob("*.*") if it.suffix in {".py", ".ts", ".tsx"}
    ]
    assert len(sources) > len(SOURCES)
    found = {str(it): names.findall(it.read_text(encoding="utf-8")) for it in sources if it not in made}
    assert {it: said for it, said in found.items() if said} == {}


async def test_who_waits_for_an_event_that_is_not_declared_is_told_at_once() -> None:
    with pytest.raises(KeyError, match="device/refusd"):
        await EventRecorder().seen("iotdevice-blink-mw9agw5m", "device/refusd")
    with pytest.raises(KeyError, match="config/reported has no field outcom"):
        EventRecorder().remembers("iotdevice-blink-mw9agw5m", "config/reported", outcom="applied")


def test_an_event_is_told_on_a_topic_of_its_own() -> None:
    assert events.DEVICE_KEY_REFUSED.topic.template == "mdm/v1/events/device/key_refused"
    assert topics.EVENT.match(events.DEVICE_KEY_REFUSED.topic.template) == {
        "noun": "device",
        "verb": "key_refused",
    }


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (events.NoFacts(), {}),
        (events.DeviceUpdateFacts(name="", enabled=False), {"name": "", "enabled": False}),
        (
            events.ConfigRestoreFacts(reverted=2, restored=None, version=3),
            {"reverted": 2, "restored": None, "version": 3},
        ),
        (
            events.FirmwareReportFacts(sha256="ab", stage=messages.FirmwareStage.FAILED, percent=None, error=None),
            {"sha256": "ab", "stage": "failed", "percent": None, "error": None},
        ),
        (
            events.CommandAnswerFacts(command_id=ID, batch_id=ID, name="reboot", ok=True, error=None),
            {"command_id": str(ID), "batch_id": str(ID), "name": "reboot", "ok": True, "error": None},
        ),
        (events.AccountFacts(account="eve"), {"account": "eve"}),
        (events.AccountFacts(account="eve", role=Role.VIEWER), {"account": "eve", "role": "viewer"}),
        (events.SelectionFacts(), {}),
        (events.SelectionFacts(devices=0), {"devices": 0}),
        (
            events.ScheduleFacts(fire_at=datetime(2026, 1, 2, 3, tzinfo=UTC), queued=2, already=1),
            {"fire_at": "2026-01-02T03:00:00+00:00", "queued": 2, "already": 1},
        ),
        (events.RolloutStartFacts(**ROLLOUT, **COUNTS), {**ROLLOUT, **COUNTS}),
        (
            events.RolloutStartFacts(
                **ROLLOUT, **COUNTS, tags=["attic"], percent=50, plan=RolloutPlan(soak_s=1), force=True
            ),
            {**ROLLOUT, **COUNTS, "tags": ["attic"], "percent": 50, "plan": {"soak_s": 1}, "force": True},
        ),
        (events.RolloutMoveFacts(**ROLLOUT, wave=1), {**ROLLOUT, "wave": 1}),
        (events.RolloutMoveFacts(**ROLLOUT, wave=1, forgiven=0), {**ROLLOUT, "wave": 1, "forgiven": 0}),
        (events.RolloutMoveFacts(**ROLLOUT, wave=1, reason="x"), {**ROLLOUT, "wave": 1, "reason": "x"}),
    ],
)
def test_what_may_be_absent_is_left_out_and_what_is_not_known_is_null(facts: Facts, said: object) -> None:
    payload = topics.EVENT.encode(event(facts.to_data()))
    assert json.loads(payload)["data"] == said
    assert type(facts).model_validate(said) == facts


def test_a_reader_leaves_out_what_it_does_not_know() -> None:
    said = {"model": "blink", "version": "1.1.0", "of_a_later_version": True}
    assert events.FIRMWARE_RELEASED.read(event(said)) == events.ReleaseFacts(model="blink", version="1.1.0")


def test_a_reader_refuses_what_is_not_as_declared() -> None:
    with pytest.raises(MessageRefusedError, match="model: is missing"):
        events.FIRMWARE_RELEASED.read(event({"version": "1.1.0"}))
