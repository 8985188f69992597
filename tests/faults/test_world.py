"""Random histories of the pure rules: whatever happens, in whatever order, the device is back at the end."""

from __future__ import annotations

import random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.world import World

HISTORIES: Final = 5_000
LONGEST: Final = 100
ACTS: Final = 33
CHOICES = st.lists(st.integers(0, ACTS - 1), max_size=LONGEST)


@settings(max_examples=2000)
@given(choices=CHOICES)
def test_a_device_with_a_key_comes_back_whatever_fails(choices: list[int]) -> None:
    World(keyed=True, failures_most=4).play(choices)


@settings(max_examples=2000)
@given(choices=CHOICES)
def test_an_old_device_comes_back_whatever_fails_alone(choices: list[int]) -> None:
    World(keyed=False, failures_most=1).play(choices)


@pytest.mark.parametrize(("keyed", "most"), [(True, 4), (False, 1)], ids=["with a key", "without one"])
def test_many_random_histories(keyed: bool, most: int) -> None:
    for seed in range(HISTORIES):
        draw = random.Random(seed)  # noqa: S311 - a seed replays it
        World(keyed=keyed, failures_most=most).play(draw.choices(range(ACTS), k=draw.randrange(LONGEST)))
