"""Draws the steps of a rotation into docs/rotation.md: `python -m services.rotator.diagram`, or `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.rotator.domain import ENDS, TRANSITIONS, Step

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "rotation.md"
BEGIN: Final = "```mermaid\n"
END: Final = "```\n"


def diagram() -> str:
    """Return the table of steps as a Mermaid state diagram; events that lead the same way share an arrow."""
    arrows: dict[tuple[Step, Step], list[str]] = {}
    for (step, event), after in TRANSITIONS.items():
        arrows.setdefault((step, after), []).append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {Step.OFFERED}"]
    lines += [f"    {step} --> {after}: {', '.join(events)}" for (step, after), events in arrows.items()]
    lines += [f"    {end} --> [*]" for end in Step if end in ENDS]
    return "\n".join(lines) + "\n"


def drawn(document: str) -> str:
    """Return a document with the diagram of today in place of the one that is in it."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the document has no place for a diagram: a code block of mermaid")
    return before + begin + diagram() + end + after


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
