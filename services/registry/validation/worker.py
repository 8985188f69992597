"""Checks schemas and documents in a process of its own: `python -m services.registry.validation.worker CPU_S`.

A line on standard input is a job: a JSON array of tasks [schema, document, field, sealed paths], the first two as
JSON text; a null document means that the schema itself is to be checked. A line on standard output is the answer
to a task: the places of the schema that are `writeOnly`, null for a document, or the fault as text, which ends the
job. The kernel kills the process by SIGPROF when a task takes more than CPU_S seconds of processor time, so also
when nobody waits for the answer any more.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from functools import lru_cache
from typing import Any, Final

from services.registry.validation import schemas
from services.registry.validation.places import Place
from shared.errors import InvalidInputError

MEMORY_MIB: Final = 256
"""Limit of the process's data; without a document it has 17."""
_FAULT_MAX: Final = 1000

_load = lru_cache(maxsize=8)(json.loads)


def main(cpu_s: float) -> None:
    """Answer jobs until standard input ends."""
    # Ctrl-C reaches this process too; it ends with the registry, at the end of its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = MEMORY_MIB * 1024 * 1024
    resource.setrlimit(
        resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )
    for line in sys.stdin.buffer:
        for schema, document, field, sealed in json.loads(line):
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            answer = _answer(schema, document, field, sealed)
            signal.setitimer(signal.ITIMER_PROF, 0)
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()
            if isinstance(answer, str):
                break


def _answer(schema: str, document: str | None, field: str, sealed: list[schemas.Path]) -> list[Place] | str | None:
    try:
        parsed: dict[str, Any] = _load(schema)
        if document is None:
            return schemas.check_schema(parsed)
        schemas.check(json.loads(document), parsed, field=field, sealed=sealed)
    except InvalidInputError as error:
        # The message may quote all of a document or a schema.
        return error.message if len(error.message) <= _FAULT_MAX else f"{error.message[:_FAULT_MAX]}…"
    except MemoryError:
        return f"config_schema: {field} must be checked within {MEMORY_MIB} MiB of memory; make the schema simpler"
    return None


if __name__ == "__main__":
    main(float(sys.argv[1]))
