"""The HTTP server of images and web page: uvicorn's protocol on connections that are accepted within limits."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import structlog
import uvicorn
from starlette.routing import Route, Router
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.firmware.assignment.service import Assignment
from services.firmware.context import Firmware
from services.firmware.http import web_ui
from services.firmware.http.authorization import Downloads
from services.firmware.http.images import Gate, ImageEndpoint
from services.firmware.http.tls_reload import Certificate
from shared.auth.tokens import tokens_of
from shared.errors import InvalidInputError
from shared.runtime import listener
from shared.runtime.settings import FirmwareSettings

log = structlog.get_logger()
HANDSHAKE_S: Final = 10.0
REQUEST_S: Final = 10.0
"""Timeout of a request's headers, from the handshake or the last answer on."""
_GRACE_S: Final = 2
_WITHOUT_REQUEST: Final = 1000
"""How many connections without a request may be open in addition to those with one."""


class _Protocol(H11Protocol):
    """Closes a connection that does not send a complete request within REQUEST_S.

    uvicorn only closes one that is silent after an answer: a single byte stops its timer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self.ended: asyncio.Future[None] | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self.ended = self.loop.create_future()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self._answered = True
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._limit is None:
            self._limit = self.loop.call_later(REQUEST_S, self._end)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _end(self) -> None:
        if self._answered:
            self.transport.close()  # the end of the answer may still be in transit
        else:
            self.transport.abort()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to shared.runtime.lifecycle."""
        yield


class HttpServer:
    """Listens from its creation on, and serves while `run` runs.

    A port or certificate that cannot be used raises InvalidInputError.
    """

    def __init__(self, settings: FirmwareSettings, firmware: Firmware) -> None:
        if settings.keycloak_url is None:
            raise InvalidInputError("MDM_KEYCLOAK_URL: must be given")
        tokens = tokens_of(settings.keycloak_url, settings.keycloak_realm, public_url=settings.keycloak_public_url)
        if settings.http_accel is not None and not firmware.store.is_shared:
            raise InvalidInputError("MDM_HTTP_ACCEL: nginx cannot read images in memory: see MDM_ASSETS_URL")
        images = ImageEndpoint(Downloads(Assignment(firmware)), tokens, settings.http_accel)
        routes = [Route("/firmware/{name}", images.answer, methods=["GET"])]
        if settings.web_dir is not None:
            routes += web_ui.read(settings.web_dir, settings.web_broker_url).routes()
        router = Router(routes, redirect_slashes=False)
        config = uvicorn.Config(
            Gate(router, settings),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # Gate logs requests
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=settings.http_certificate_file,
            ssl_keyfile=settings.http_key_file,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            names = "MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE"
            raise InvalidInputError(f"{names}: cannot be used: {error}") from error
        self._config = config
        self._certificate = Certificate(config)
        self._server = _Uvicorn(config)
        # The other half of the file descriptors is for images, the database and the broker.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(settings.http_max_parallel + _WITHOUT_REQUEST, files // 2)
        self._listener = listener.Listener(
            _listening(settings),
            self._serve,
            max_connections=most,
            max_per_address=settings.http_max_per_address,
        )
        place = {"host": settings.http_host, "port": settings.http_port}
        log.info("http.listens", **place, tls=config.is_ssl, max_connections=most)

    async def run(self) -> None:
        """Serve until cancelled; then wait briefly for open requests and abort the rest."""
        serving = asyncio.create_task(self._server.serve([]), name="uvicorn")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._certificate.watch(), name="certificate")
                tasks.create_task(self._listener.run(), name="listener")
                await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            await serving

    async def _serve(self, connection: socket.socket) -> None:
        """Return when the connection is closed."""
        protocol = _Protocol(self._config, self._server.server_state, {})
        tls = self._config.ssl
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, connection, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S if tls else None
            )
        except OSError:
            return  # the handshake failed, or took too long
        if protocol.ended is not None:
            await protocol.ended


def _listening(settings: FirmwareSettings) -> socket.socket:
    names = "MDM_HTTP_HOST, MDM_HTTP_PORT"
    listening = listener.listening_on(settings.http_host, settings.http_port, settings=names)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Unread data of an aborted client would otherwise keep its connection; accepted sockets inherit this
        # option. Twice as long as Gate waits: if the kernel closed the connection, the log would not have the
        # reason.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.http_stall_s * 2000))
    return listening
