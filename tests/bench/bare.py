"""The baseline of HTTP: one file, served by Starlette's own FileResponse, without any question.

`python -m tests.bench.bare FILE PORT CERTIFICATE KEY`
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route, Router


def main() -> None:
    """Serve until ended."""
    file, port, certificate, key = sys.argv[1:]

    async def answer(_request: Request) -> FileResponse:
        return FileResponse(file)

    uvicorn.run(
        Router([Route("/", answer)]),
        port=int(port),
        http="h11",
        log_level="warning",
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


if __name__ == "__main__":
    main()
