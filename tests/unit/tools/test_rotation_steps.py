from __future__ import annotations

import re

from services.rotator.states import TRANSITIONS, AttemptEvent, Step
from tools import files, rotation_steps


def test_each_transition_is_drawn_once() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+): (.+)$", rotation_steps.diagram(), re.MULTILINE)
    drawn = [((step, event), after) for step, after, events in arrows for event in events.split(", ")]
    assert len(drawn) == len(TRANSITIONS)
    assert dict(drawn) == TRANSITIONS


def test_each_step_and_event_is_explained() -> None:
    document = files.ROTATION.read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)`", document, re.MULTILINE)
    assert sorted(explained) == sorted([*Step, *AttemptEvent])
