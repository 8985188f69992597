from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from prometheus_client import REGISTRY

from shared.errors import UnavailableError
from shared.runtime import metrics
from shared.runtime.metrics import Counts


@pytest.fixture
def counts() -> Iterator[Counts]:
    counts = Counts("test_count", "Things, by kind.", "kind")
    yield counts
    REGISTRY.unregister(counts)


def served(counts: Counts) -> dict[str, float]:
    return {sample.labels["kind"]: sample.value for family in counts.collect() for sample in family.samples}


async def test_counts_are_those_of_the_last_look_and_none_are_served_without_one(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "REFRESH_S", 0)
    answers: list[Mapping[str, int] | None] = [{"a": 1, "b": 2}, {"a": 0}, None, {"c": 3}]
    seen = []

    async def look() -> Mapping[str, int]:
        seen.append(served(counts))
        if not answers:
            task.cancel()
            return {"d": 4}
        answer = answers.pop(0)
        if answer is None:
            raise UnavailableError("the database does not answer")
        return answer

    task = asyncio.create_task(counts.refresh(look))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [{}, {"a": 1, "b": 2}, {"a": 0}, {}, {"c": 3}]
    assert served(counts) == {}
