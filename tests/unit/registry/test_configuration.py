"""The worker process that checks configurations."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.registry.validation import checker as checker_module
from services.registry.validation.checker import Checker, ConfigCandidate
from shared.errors import InvalidInputError, UnavailableError

CPU_S = 0.5
SCHEMA = {"properties": {"a": {"maximum": 9}}}
FITS = ConfigCandidate({"a": 1}, SCHEMA, "configuration")
ENDLESS = ConfigCandidate(
    {"a": f"{'a' * 40}!"}, {"properties": {"a": {"pattern": r"^(?!x)(a+)+$"}}}, "lamp: configuration"
)


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    async with checker_module.checker(cpu_s=CPU_S) as made:
        yield made


def doubling(keyword: str, last: dict[str, Any]) -> dict[str, Any]:
    steps = {f"s{step}": {keyword: [{"$ref": f"#/$defs/s{step + 1}"}] * 2} for step in range(26)}
    return {"$ref": "#/$defs/s0", "$defs": {**steps, "s26": last}}


async def test_without_a_schema_every_document_is_taken_and_no_process_is_needed(checker: Checker) -> None:
    await checker.check([ConfigCandidate({"anything": [None]}, None, "configuration")])
    assert checker._worker is None


@pytest.mark.parametrize("schema", [None, SCHEMA])
async def test_what_no_device_could_take_is_refused(checker: Checker, schema: dict[str, Any] | None) -> None:
    with pytest.raises(InvalidInputError, match=r"^lamp: must be at most 32768 bytes"):
        await checker.check([ConfigCandidate({"x": "y" * 40_000}, schema, "lamp")])


async def test_the_first_of_many_documents_that_does_not_fit_is_named(checker: Checker) -> None:
    levels = [*range(10), 11, *range(10), 10]
    other = {"properties": {"a": {"maximum": 99}}}
    for number in (1, checker_module._JOB, 2 * checker_module._JOB):
        documents = [ConfigCandidate({"a": 50, "n": n}, other, "other") for n in range(number)]
        documents += [ConfigCandidate({"a": level}, SCHEMA, f"lamp {n}") for n, level in enumerate(levels)]
        with pytest.raises(InvalidInputError, match=r"^lamp 10\.a: 11 is greater than the maximum of 9$"):
            await checker.check(documents)
    await checker.check([FITS])


async def test_many_documents_go_in_few_jobs_and_equal_ones_once(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[int] = []
    run = Checker._run

    async def counting(self: Checker, job: Sequence[checker_module._Task]) -> list[object]:
        jobs.append(len(job))
        return await run(self, job)

    monkeypatch.setattr(Checker, "_run", counting)
    async with checker_module.checker() as checker:
        await checker.check(ConfigCandidate({"a": 1, "n": n % 150}, SCHEMA, f"lamp {n}") for n in range(10_000))
    assert jobs == [100, 50]


@pytest.mark.parametrize(
    "candidate",
    [
        ENDLESS,
        ConfigCandidate({}, doubling("allOf", {"type": "object"}), "lamp: configuration"),
        ConfigCandidate(
            {"a": [*range(5000), "b"]}, {"properties": {"a": {"uniqueItems": True}}}, "lamp: configuration"
        ),
    ],
    ids=["a pattern of before RE2", "references that double", "many unique items"],
)
async def test_what_takes_too_long_is_refused_and_others_are_checked_afterwards(
    checker: Checker, candidate: ConfigCandidate
) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    refused = asyncio.create_task(checker.check([FITS, candidate, FITS]))
    await asyncio.sleep(0)
    await checker.check([FITS])
    with pytest.raises(
        InvalidInputError,
        match=r"^config_schema: lamp: configuration must be checked within 0\.5 s of processor time",
    ):
        await refused
    ticking.cancel()
    assert ticks > 1000
    await checker.check([FITS])


async def test_what_took_too_long_once_is_refused_at_once_when_it_is_asked_again(checker: Checker) -> None:
    with pytest.raises(InvalidInputError, match=r"^config_schema: lamp: configuration must be checked within"):
        await checker.check([ENDLESS])
    await checker.check([FITS])
    worker = checker._worker
    with pytest.raises(InvalidInputError, match=r"^config_schema: lamp: configuration must be checked within"):
        await checker.check([ENDLESS])
    assert checker._worker is worker


async def test_a_schema_that_takes_too_long_is_refused_and_others_are_checked_afterwards(checker: Checker) -> None:
    with pytest.raises(
        InvalidInputError, match=r"^config_schema: the schema itself must be checked within 0\.5 s"
    ):
        await checker.check_schema({"type": [*range(5000), "b"]})
    await checker.check_schema(SCHEMA)


async def test_what_takes_too_much_memory_is_refused_and_others_are_checked_afterwards() -> None:
    async with checker_module.checker(cpu_s=60) as checker:
        with pytest.raises(InvalidInputError, match=r"lamp must be checked within 256 MiB of memory"):
            await checker.check(
                [ConfigCandidate({"a": "b" * 20_000}, doubling("anyOf", {"type": "array"}), "lamp")]
            )
        await checker.check([FITS])


async def test_a_long_fault_is_cut() -> None:
    async with checker_module.checker() as checker:
        with pytest.raises(InvalidInputError) as caught:
            await checker.check(
                [ConfigCandidate({"a": "b" * 30_000}, {"properties": {"a": {"enum": ["c"]}}}, "lamp")]
            )
    assert len(caught.value.message) < 2000
    assert caught.value.message.startswith("lamp.a: 'bbb")


async def test_a_worker_that_was_killed_is_replaced(checker: Checker) -> None:
    await checker.check([FITS])
    assert checker._worker is not None
    os.kill(checker._worker.pid, signal.SIGKILL)
    await checker._worker.wait()
    await checker.check([FITS])


async def test_a_worker_that_is_killed_at_work_is_no_fault_of_the_document(checker: Checker) -> None:
    await checker.check([FITS])
    assert checker._worker is not None
    os.kill(checker._worker.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(checker.check([ConfigCandidate({"a": 2}, SCHEMA, "lamp")]))
    await asyncio.sleep(0)
    os.kill(checker._worker.pid, signal.SIGKILL)
    with pytest.raises(UnavailableError, match="the process that checks lamp has died; retry"):
        await waiting
    await checker.check([FITS])


async def test_a_worker_that_is_frozen_is_replaced(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    await checker.check([FITS])
    assert checker._worker is not None
    os.kill(checker._worker.pid, signal.SIGSTOP)
    monkeypatch.setattr(checker_module, "_ALL_S", 0.2)
    with pytest.raises(UnavailableError, match=r"were not checked within 0\.2 s; retry"):
        await checker.check([ConfigCandidate({"a": 2}, SCHEMA, "lamp")])
    monkeypatch.undo()
    await checker.check([FITS])


async def test_the_worker_ends_with_the_registry_also_in_the_middle_of_work(checker: Checker) -> None:
    await checker.check([FITS])
    worker = checker._worker
    assert worker is not None
    working = asyncio.create_task(checker.check([ENDLESS]))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert worker.returncode == -signal.SIGKILL


async def test_passwords_are_not_in_the_workers_environment(
    checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDM_MQTT_PASSWORD", "secret")
    await checker.check([FITS])
    assert checker._worker is not None
    with open(f"/proc/{checker._worker.pid}/environ", "rb") as environment:  # noqa: ASYNC230, PTH123
        assert b"MDM_MQTT_PASSWORD" not in environment.read()
