"""The gauges of all devices, by model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Final, get_args

from services.registry.devices.fleet_queries import Group
from shared.protocol import admin
from shared.runtime import metrics
from shared.runtime.metrics import Samples

GAUGES: Final = (
    metrics.PRESENCES,
    metrics.HEALTH,
    metrics.HEALTH_REASONS,
    metrics.FIRMWARE_VERSIONS,
    metrics.OLDEST_SECRETS,
)
MOST_VERSIONS: Final = 20
"""Of each model; devices choose what they report, and each version is a series of its own."""
OTHERS: Final = "others"


def samples(models: Sequence[str], groups: Iterable[Group]) -> list[Samples]:
    """Return the samples of all gauges, in their order; what no device of a model has is 0."""
    presences, healths, reasons, versions = (Counter[tuple[str, ...]]() for _ in range(4))
    oldest: dict[str, float] = {}
    for group in groups:
        offline = group.devices - group.online - group.asleep
        _add(presences, group, {"online": group.online, "asleep": group.asleep, "offline": offline})
        _add(healths, group, group.health)
        _add(reasons, group, group.reasons)
        _add(versions, group, {group.version or "": group.devices})
        if group.oldest_secret is not None:
            at = group.oldest_secret.timestamp()
            oldest[group.model] = min(at, oldest.get(group.model, at))
    return [
        {**_zeros(models, admin.PresenceState), **presences},
        {**_zeros(models, admin.Health), **healths},
        {**_zeros(models, admin.HealthReasonName), **reasons},
        _most(versions),
        oldest,
    ]


def _add(counts: Counter[tuple[str, ...]], group: Group, numbers: Mapping[Any, int]) -> None:
    counts.update({(group.model, name): number for name, number in numbers.items()})


def _zeros(models: Sequence[str], names: Any) -> dict[tuple[str, ...], float]:  # noqa: ANN401 - a Literal
    return dict.fromkeys(product(models, get_args(names)), 0)


def _most(counts: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    """Return the counts of each model's most frequent versions, and of all others together."""
    found, shown = Counter[tuple[str, ...]](), Counter[str]()
    for (code, version), number in sorted(counts.items(), key=lambda it: (-it[1], it[0])):
        shown[code] += 1
        found[code, version if shown[code] <= MOST_VERSIONS else OTHERS] += number
    return found
