"""A proxy before the real Keycloak that is away, answers something else, loses calls or answers, or is late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dev.servers.base import HOST, free_port

_HOP_BY_HOP: Final = {"connection", "content-length", "content-encoding", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a call: answered by the proxy itself, carried after a time, or its answer is lost.

    A call that is `late_s` late is answered with 504 at once, and reaches Keycloak all the same.
    """

    answer: Response | None = None
    wait_s: float = 0.0
    late_s: float | None = None
    lose_answer: bool = False


@dataclass(slots=True)
class Proxy:
    """Carries all calls to Keycloak but those for which `judge(method, path)` returns a fault."""

    keycloak_url: str
    port: int = field(default_factory=free_port)
    judge: Callable[[str, str], Fault | None] = lambda _method, _path: None
    _late: set[asyncio.Task[Response]] = field(default_factory=set)
    _server: uvicorn.Server | None = None
    _serving: asyncio.Task[None] | None = None
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=60))

    @property
    def url(self) -> str:
        """What services take for Keycloak's URL."""
        return f"http://{HOST}:{self.port}"

    async def open(self) -> None:
        """Listen for calls."""
        app = Starlette(routes=[Route("/{path:path}", self.serve, methods=["GET", "POST", "PUT", "DELETE"])])
        config = uvicorn.Config(app, HOST, self.port, log_level="error", lifespan="off", access_log=False)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """End the calls that are under way, close all connections and listen no more."""
        assert self._server
        assert self._serving
        self._server.should_exit = True
        await self._serving

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Break all connections and refuse new ones, as a Keycloak that is restarted, until the block ends."""
        await self.close()
        try:
            yield
        finally:
            await self.open()

    async def settled(self) -> None:
        """Wait until all late calls have reached Keycloak."""
        while self._late:
            await asyncio.wait(self._late)

    async def serve(self, request: Request) -> Response:
        """Answer one call."""
        body = await request.body()
        fault = self.judge(request.method, request.url.path) or Fault()
        if fault.answer is not None:
            return fault.answer
        if fault.late_s is not None:
            task = asyncio.create_task(self._carry(request, body, fault.late_s))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return Response("late", status_code=504)
        answer = await self._carry(request, body, fault.wait_s)
        return Response("lost", status_code=502) if fault.lose_answer else answer

    async def _carry(self, request: Request, body: bytes, wait_s: float) -> Response:
        await asyncio.sleep(wait_s)
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        # Keycloak names itself after the host that it is asked for, in tokens too.
        headers["host"] = self.keycloak_url.removeprefix("http://")
        url = httpx.URL(self.keycloak_url).copy_with(path=request.url.path, query=request.url.query.encode())
        got = await self._http.request(request.method, url, headers=headers, content=body)
        kept = {name: value for name, value in got.headers.items() if name not in _HOP_BY_HOP}
        return Response(got.content, got.status_code, kept)


@asynccontextmanager
async def running(keycloak_url: str) -> AsyncIterator[Proxy]:
    """Serve until the block ends."""
    proxy = Proxy(keycloak_url)
    await proxy.open()
    try:
        yield proxy
        await proxy.settled()
    finally:
        await proxy.close()
        await proxy._http.aclose()
