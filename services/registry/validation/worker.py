"""Checks schemas and documents in a process of its own: `python -m services.registry.validation.worker CPU_S`.

A line on standard input is a job: a JSON array of tasks [schema, document, field], the first two as JSON text; a
null document means that the schema itself is to be checked. A line on standard output is the answer to a task:
null, or the fault, which ends the job. The kernel kills the process by SIGPROF when a task takes more than CPU_S
seconds of processor time, so also when nobody waits for the answer any more.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any, Final

from services.registry.validation import schemas
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
        for schema, document, field in json.loads(line):
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            fault = _fault(schema, document, field)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(sys.stdout.fileno(), json.dumps(fault).encode() + b"\n")
            if fault is not None:
                break


def _fault(schema: str, document: str | None, field: str) -> str | None:
    try:
        parsed: dict[str, Any] = _load(schema)
        if document is None:
            schemas.check_schema(parsed)
        else:
            schemas.check(json.loads(document), parsed, field=field)
    except InvalidInputError as error:
        # The message may quote all of a document or a schema.
        return error.message if len(error.message) <= _FAULT_MAX else f"{error.message[:_FAULT_MAX]}…"
    except MemoryError:
        return f"config_schema: {field} must be checked within {MEMORY_MIB} MiB of memory; make the schema simpler"
    return None


if __name__ == "__main__":
    main(float(sys.argv[1]))
