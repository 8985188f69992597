"""Marks and cuts for tests that take each kind of device."""

from __future__ import annotations

import os
import random
import secrets
from typing import Final, TypeVar

import pytest

from dev.crash_injection import CrashPoint, deaths
from dev.device_kinds import MICROPYTHON, REFERENCE, C, DeviceKind
from dev.devices import OLDEST, micropython

needs_micropython: Final = pytest.mark.skipif(
    micropython() is None, reason=f"there is no unix port of MicroPython {OLDEST} or newer"
)
every_device: Final = pytest.mark.parametrize(
    "kind", [REFERENCE, C, pytest.param(MICROPYTHON, marks=needs_micropython)], ids=str
)
ALL_FAULTS: Final = os.environ.get("FAULTS") == "all"
"""Run what the usual run of the tests takes only a part of."""
SEED: Final = int(os.environ.get("MATRIX_SEED") or secrets.randbelow(2**20))
T = TypeVar("T")


def sample(kind: DeviceKind, cases: list[T], count: int) -> tuple[list[T], str]:
    """Return the cases to run, of other kinds than the reference device usually so many, and a title for that."""
    if kind is REFERENCE or ALL_FAULTS or len(cases) <= count:
        return cases, ""
    drawn = set(random.Random(SEED).sample(range(len(cases)), count))  # noqa: S311 - a seed replays it
    return [
        case for number, case in enumerate(cases) if number in drawn
    ], f"; {count} of {len(cases)}, seed {SEED}"


def cuts(kind: DeviceKind, steps: list[str]) -> list[CrashPoint]:
    """Return all different points of a run to cut the power at, a publication's only once.

    Of the other kinds than the reference device it is usually the durable writes only.
    """
    noise = [step for step in steps if step.startswith("publish.")]
    if kind is REFERENCE or ALL_FAULTS:
        return deaths(steps, noise=noise)
    return deaths(step for step in steps if not step.startswith("publish."))
