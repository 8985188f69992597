"""Validates configurations and schemas in a worker process, so that a schema can neither block nor exhaust us."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

import structlog

from services.registry.validation.places import MAX_BYTES, Place
from shared.errors import InvalidInputError, UnavailableError
from shared.protocol.messages import storable

log = structlog.get_logger()

CPU_S: Final = 3.0
"""Processor time for one document or one schema; a schema of 31 KB with 380 patterns takes 0.25."""
_ALL_S: Final = 60.0
"""Timeout for all documents of a change, with the wait for others: half the idle timeout of a transaction."""
_JOB: Final = 100
"""Documents that are sent at once; checks of others may run in between."""
_ANSWER_MAX_BYTES: Final = 2 * MAX_BYTES
_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class ConfigCandidate:
    """A document that is to become a configuration; `field` names it in errors.

    Its values at the `sealed` paths are never quoted in an error.
    """

    document: dict[str, Any]
    schema: Mapping[str, Any] | None
    field: str
    sealed: Sequence[Sequence[str | int]] = ()


def refuse_unstorable(document: dict[str, Any], *, field: str) -> None:
    """Raise InvalidInputError naming `field` unless a device could store the document."""
    try:
        storable(document)
    except ValueError as error:
        raise InvalidInputError(f"{field}: {error}") from None


@dataclass(frozen=True)
class _Task:
    """A task of the worker: a document, or a schema itself if there is none; both are JSON."""

    schema: str
    document: str | None
    field: str
    sealed: Sequence[Sequence[str | int]] = ()

    @cached_property
    def key(self) -> bytes:
        return hashlib.sha256(f"{self.schema}\n{self.document}".encode()).digest()


class Checker:
    """One worker, started on first use and replaced when it has died."""

    def __init__(self, *, cpu_s: float = CPU_S) -> None:
        self._cpu_s = cpu_s
        self._worker: Process | None = None
        self._turn = asyncio.Lock()
        # Admins' requests are repeated until answered: a check that was too slow must not run again each time.
        self._too_slow: set[bytes] = set()

    async def check_schema(self, schema: Mapping[str, Any]) -> list[Place]:
        """Return the places that are `writeOnly`; raise InvalidInputError unless a model may have this `schema`.

        The message names place and rule.
        """
        (found,) = await self._check([_Task(json.dumps(schema), None, "the schema itself")])
        return cast("list[Place]", found)

    async def check(self, candidates: Iterable[ConfigCandidate]) -> None:
        """Raise InvalidInputError for the first document that does not fit a device or its schema.

        The message names field, path and rule. UnavailableError: the worker has died, or too many others wait.
        """
        await self._check(_tasks(candidates))

    async def _check(self, tasks: Iterable[_Task]) -> list[object]:
        """Return the answer to each task, without repeated ones."""
        known: set[bytes] = set()
        job: list[_Task] = []
        answers: list[object] = []
        try:
            async with asyncio.timeout(_ALL_S):
                for task in tasks:
                    # Most devices of a model have the same document.
                    if task.key not in known:
                        known.add(task.key)
                        job.append(task)
                    if len(job) == _JOB:
                        answers += await self._run(job)
                        job = []
                if job:
                    answers += await self._run(job)
        except TimeoutError:
            raise UnavailableError(f"configurations were not checked within {_ALL_S:g} s; retry") from None
        return answers

    async def _run(self, job: Sequence[_Task]) -> list[object]:
        async with self._turn:
            for task in job:
                if task.key in self._too_slow:
                    raise self._overrun(task)
            if self._worker is None or self._worker.returncode is not None:
                self._worker = await _start(self._cpu_s)
            try:
                answers = await self._answers(self._worker, job)
            except BaseException:
                # It may still be running, or have answers that nobody reads.
                await self.stop()
                raise
            if isinstance(answers[-1], str):
                raise InvalidInputError(answers[-1])
            return answers

    async def _answers(self, worker: Process, job: Sequence[_Task]) -> list[object]:
        """Return the answers, of which only the last can be a fault.

        Raise InvalidInputError for a task whose limit killed the worker.
        """
        questions, lines = cast("StreamWriter", worker.stdin), cast("StreamReader", worker.stdout)
        answers: list[object] = []
        with suppress(ConnectionError):  # It has died: there will be no answer.
            questions.write(
                json.dumps([[it.schema, it.document, it.field, it.sealed] for it in job]).encode() + b"\n"
            )
            await questions.drain()
        for task in job:
            line = await lines.readline()
            if not line:
                status = await worker.wait()
                log.warning("configuration.worker_died", status=status, checked=task.field)
                if status == -signal.SIGPROF:
                    if len(self._too_slow) >= _REMEMBERED:
                        self._too_slow.clear()
                    self._too_slow.add(task.key)
                    raise self._overrun(task)
                raise UnavailableError(f"the process that checks {task.field} has died; retry")
            answers.append(json.loads(line))
            if isinstance(answers[-1], str):
                break
        return answers

    def _overrun(self, task: _Task) -> InvalidInputError:
        return InvalidInputError(
            f"config_schema: {task.field} must be checked within {self._cpu_s:g} s of processor time; "
            "make the schema simpler"
        )

    async def stop(self) -> None:
        """End the worker, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.communicate()


@asynccontextmanager
async def checker(*, cpu_s: float = CPU_S) -> AsyncIterator[Checker]:
    """Validate configurations while the block runs."""
    made = Checker(cpu_s=cpu_s)
    try:
        yield made
    finally:
        await made.stop()


def _tasks(candidates: Iterable[ConfigCandidate]) -> Iterator[_Task]:
    schemas: dict[int, str] = {}
    for it in candidates:
        refuse_unstorable(it.document, field=it.field)
        if it.schema is not None:
            # The devices of a model share its schema.
            if id(it.schema) not in schemas:
                schemas[id(it.schema)] = json.dumps(it.schema)
            yield _Task(schemas[id(it.schema)], json.dumps(it.document), it.field, it.sealed)


async def _start(cpu_s: float) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.registry.validation.worker",
        str(cpu_s),
        stdin=PIPE,
        stdout=PIPE,
        limit=_ANSWER_MAX_BYTES,
        # No passwords for a process that handles untrusted input.
        env={name: value for name, value in os.environ.items() if not name.startswith("MDM_")},
    )
