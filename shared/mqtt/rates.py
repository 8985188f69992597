"""Token buckets: how often each of many senders may do something."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

# So that one who keeps to the rate exactly is not refused for the rounding of a sum of floats.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second for good, and `burst` (1 or more) at once after a pause."""

    per_s: float
    burst: int


class Buckets:
    """A bucket of `burst` tokens for each key, into which `per_s` tokens fall a second; times in seconds.

    All that is kept of a bucket is when it will be full, and nothing once it is (the generic cell rate algorithm).
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full_at: dict[Hashable, float] = {}
        self._sweep_at = -math.inf

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> bool:
        """Take a token out of a bucket, or say that there is none."""
        self._forget(now)
        full_at = max(self._full_at.get(key, now), now)
        if (full_at - now) * self._rate.per_s > self._rate.burst - 1 + _ROUNDING:
            return False
        self._full_at[key] = full_at + 1 / self._rate.per_s
        return True

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full, once in the time that it takes to fill one."""
        if now >= self._sweep_at:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
            self._sweep_at = now + self._rate.burst / self._rate.per_s
