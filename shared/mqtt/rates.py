"""Token buckets: rate limits for each of many senders."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

# Tolerance for the rounding of a sum of floats, so that a sender at exactly the rate is not refused.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Rate:
    """A sustained rate per second, and a `burst` (1 or more) at once after a pause."""

    per_s: float
    burst: int


class Buckets:
    """A bucket of `burst` tokens for each key, refilled with `per_s` tokens a second; times in seconds.

    A bucket is stored as the time at which it will be full, and not at all once it is (generic cell rate
    algorithm).
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full_at: dict[Hashable, float] = {}
        self._sweep_at = -math.inf

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> bool:
        """Take a token from a bucket and return True, or return False if there is none."""
        self._forget(now)
        full_at = max(self._full_at.get(key, now), now)
        if (full_at - now) * self._rate.per_s > self._rate.burst - 1 + _ROUNDING:
            return False
        self._full_at[key] = full_at + 1 / self._rate.per_s
        return True

    def _forget(self, now: float) -> None:
        """Forget full buckets; runs once in the time that it takes to fill one."""
        if now >= self._sweep_at:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
            self._sweep_at = now + self._rate.burst / self._rate.per_s
