"""The diagram of a rotation's steps in docs/rotation.md, generated from the table of transitions."""

from __future__ import annotations

from services.rotator.states import ENDS, TRANSITIONS, Step


def diagram() -> str:
    """Return the table of steps as a Mermaid state diagram; events with the same transition share an arrow."""
    arrows: dict[tuple[Step, Step], list[str]] = {}
    for (step, event), after in TRANSITIONS.items():
        arrows.setdefault((step, after), []).append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {Step.OFFERED}"]
    lines += [f"    {step} --> {after}: {', '.join(events)}" for (step, after), events in arrows.items()]
    lines += [f"    {end} --> [*]" for end in Step if end in ENDS]
    return "\n".join(lines) + "\n"
