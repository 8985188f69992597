"""Duration of a campaign by part, from the history of its rotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean

from shared.protocol.admin import RotationEntry


def parts(entries: Sequence[RotationEntry]) -> Mapping[str, float]:
    """Return the mean seconds of each part of completed rotations, which are sorted by start."""
    took: dict[str, list[float]] = {
        "offered to delivered": [],
        "to stored (the device)": [],
        "to switched (Keycloak and the broker)": [],
        "to done (the device logs in)": [],
    }
    for entry in entries:
        assert entry.delivered_at is not None
        assert entry.stored_at is not None
        assert entry.switched_at is not None
        assert entry.ended_at is not None
        moments = (entry.started_at, entry.delivered_at, entry.stored_at, entry.switched_at, entry.ended_at)
        for part, (earlier, later) in zip(took.values(), pairwise(moments), strict=True):
            part.append((later - earlier).total_seconds())
    took["to the next device"] = [
        (later.started_at - earlier.ended_at).total_seconds()
        for earlier, later in pairwise(entries)
        if earlier.ended_at
    ]
    return {name: mean(seconds) for name, seconds in took.items()}
