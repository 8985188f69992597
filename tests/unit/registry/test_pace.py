"""How often everything is compared."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.registry.reconciler import pace


@pytest.mark.parametrize(("took_s", "next_in_s"), [(0, 300), (2, 300), (10, 1500), (400, 60_000)])
def test_the_longer_a_comparison_takes_the_rarer_it_is(took_s: float, next_in_s: float) -> None:
    assert pace.interval(timedelta(seconds=took_s), None).total_seconds() == next_in_s
    assert took_s / (took_s + next_in_s) < 0.01


def test_a_time_that_is_set_holds() -> None:
    assert pace.interval(timedelta(seconds=400), 1.5).total_seconds() == 1.5
