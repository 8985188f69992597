from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from shared.mqtt.rates import Buckets, Rate

RATES = st.builds(
    Rate, per_s=st.floats(min_value=0.01, max_value=1000), burst=st.integers(min_value=1, max_value=1000)
)
PAUSES = st.lists(st.floats(min_value=0, max_value=100), max_size=60)


@given(rate=RATES, pauses=PAUSES, start=st.floats(min_value=0, max_value=1e6))
def test_never_more_is_taken_than_the_burst_and_what_has_fallen_in_since(
    rate: Rate, pauses: list[float], start: float
) -> None:
    buckets, now, taken = Buckets(rate), start, list[float]()
    for pause in pauses:
        now += pause
        while len(taken) < 2000 and buckets.take("one", now):
            taken.append(now)
    for first in range(0, len(taken), 97):
        for last in range(first, len(taken), 89):
            assert last - first + 1 <= rate.burst + (taken[last] - taken[first]) * rate.per_s + 0.01


@given(rate=RATES, pauses=PAUSES, start=st.floats(min_value=0, max_value=1e6))
def test_who_keeps_to_the_rate_is_never_refused(rate: Rate, pauses: list[float], start: float) -> None:
    buckets, now = Buckets(rate), start
    for pause in pauses:
        assert buckets.take("one", now)
        now += 1 / rate.per_s + pause


@given(rate=RATES, start=st.floats(min_value=0, max_value=1e6))
def test_the_burst_can_be_had_at_once_and_again_after_a_pause(rate: Rate, start: float) -> None:
    buckets = Buckets(rate)
    for now in (start, start + rate.burst / rate.per_s + 1):
        assert all(buckets.take("one", now) for _ in range(rate.burst))
        assert not buckets.take("one", now)


@given(
    rate=st.builds(Rate, per_s=st.just(1.0), burst=st.integers(min_value=1, max_value=5)),
    asked=st.lists(st.tuples(st.sampled_from("abc"), st.integers(min_value=0, max_value=8)), max_size=80),
)
def test_each_key_has_a_bucket_of_its_own_as_one_that_counts_tokens(
    rate: Rate, asked: list[tuple[str, int]]
) -> None:
    """Whole seconds: the model's sums are exact."""
    buckets, now = Buckets(rate), 0
    tokens: dict[str, int] = defaultdict(lambda: rate.burst)
    filled_at: dict[str, int] = defaultdict(int)
    for key, pause in asked:
        now += pause
        tokens[key] = min(rate.burst, tokens[key] + now - filled_at[key])
        filled_at[key] = now
        assert buckets.take(key, now) == (tokens[key] > 0)
        tokens[key] = max(0, tokens[key] - 1)


def test_nothing_is_kept_of_a_bucket_that_is_full() -> None:
    buckets = Buckets(Rate(per_s=10, burst=10))
    for number in range(1000):
        buckets.take(number, 0.0)
    assert len(buckets) == 1000
    buckets.take("one", 1.5)
    assert len(buckets) == 1
