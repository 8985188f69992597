from __future__ import annotations

import re

import pytest

from services.rotator import diagram
from services.rotator.domain import TRANSITIONS, Event, Step


def test_the_document_is_up_to_date() -> None:
    document = diagram.DOCUMENT.read_text(encoding="utf-8")
    assert diagram.drawn(document) == document, "run `make docs`"


def test_each_transition_is_drawn_once() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+): (.+)$", diagram.diagram(), re.MULTILINE)
    drawn = [((step, event), after) for step, after, events in arrows for event in events.split(", ")]
    assert len(drawn) == len(TRANSITIONS)
    assert dict(drawn) == TRANSITIONS


def test_each_step_and_event_is_explained() -> None:
    document = diagram.DOCUMENT.read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)`", document, re.MULTILINE)
    assert sorted(explained) == sorted([*Step, *Event])


def test_only_the_diagram_of_a_document_is_replaced() -> None:
    assert diagram.drawn("a\n```mermaid\nold\n```\nb\n```\nc\n```\n") == (
        f"a\n```mermaid\n{diagram.diagram()}```\nb\n```\nc\n```\n"
    )


@pytest.mark.parametrize("document", ["", "no diagram", "```mermaid\nwithout an end"])
def test_a_document_without_a_place_for_it_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="no place for a diagram"):
        diagram.drawn(document)
