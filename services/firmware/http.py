"""Images over HTTP(S), the second road: `GET` and `HEAD` of /firmware/latest and /firmware/{sha256}.

The web page is served there too, if the settings say where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import structlog
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.firmware import conditions, page
from services.firmware.certificate import Certificate
from services.firmware.downloads import Downloads
from services.firmware.service import Firmware, ImageNotForDeviceError, ImageUnknownError
from shared import metrics
from shared.errors import InvalidInputError, UnavailableError
from shared.schema import FirmwareImage
from shared.settings import FirmwareSettings
from shared.tokens import TokenRefusedError, Tokens, tokens_of

log = structlog.get_logger()
PIECE_BYTES: Final = 64 * 1024
RETRY_AFTER_S: Final = 5
_GRACE_S: Final = 2
_LATEST: Final = "latest"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)
_AGAIN_LATER: Final = {"retry-after": str(RETRY_AFTER_S)}


@dataclass(frozen=True, slots=True)
class Images:
    """The endpoint; what it finds out about a request it leaves in `request.state` for the log."""

    downloads: Downloads
    tokens: Tokens

    async def answer(self, request: Request) -> Response:
        """Return an image, a part of it, or the reason why not."""
        try:
            image = await self._find(request)
            return await self._served(request, image)
        except TokenRefusedError as error:
            request.state.reason = error.message
            challenge = 'Bearer realm="firmware"'
            if "authorization" in request.headers:
                challenge += ', error="invalid_token"'
            return _plain(HTTPStatus.UNAUTHORIZED, {"www-authenticate": challenge})
        except ImageNotForDeviceError as error:
            request.state.reason = error.message
            unknown = isinstance(error, ImageUnknownError)
            return _plain(HTTPStatus.NOT_FOUND if unknown else HTTPStatus.FORBIDDEN)
        except UnavailableError as error:
            request.state.reason = error.message
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, _AGAIN_LATER)

    async def _find(self, request: Request) -> FirmwareImage:
        given = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if given is None:
            raise TokenRefusedError("there is no bearer token")
        holder = await self.tokens.holder(given[1])
        request.state.client_id = holder.client_id
        name = request.path_params["name"]
        if name != _LATEST and not _SHA256.fullmatch(name):
            raise ImageUnknownError("the path names no image")
        image = await self.downloads.find(holder, None if name == _LATEST else name)
        request.state.sha256 = image.sha256
        return image

    async def _served(self, request: Request, image: FirmwareImage) -> Response:
        etag, size_bytes = f'"{image.sha256}"', image.size_bytes
        is_get = request.method == "GET"
        wanted = conditions.reply(request.headers, etag=etag, size_bytes=size_bytes, is_get=is_get)
        if wanted.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _plain(wanted.status, {"content-range": f"bytes */{size_bytes}"})
        headers = {"etag": etag, "accept-ranges": "bytes"}
        if wanted.status == HTTPStatus.NOT_MODIFIED:
            return Response(status_code=wanted.status, headers=headers)
        if wanted.status == HTTPStatus.PRECONDITION_FAILED:
            return _plain(wanted.status, headers)
        headers["content-length"] = str(wanted.end - wanted.start)
        if wanted.status == HTTPStatus.PARTIAL_CONTENT:
            headers["content-range"] = f"bytes {wanted.start}-{wanted.end - 1}/{size_bytes}"
        media_type = "application/octet-stream"
        if not is_get:
            return Response(status_code=wanted.status, headers=headers, media_type=media_type)
        # The first piece is read before anything is said, while it can still be said that there is none.
        first = await self._piece(image.sha256, wanted.start, wanted.end)
        pieces = self._pieces(first, image.sha256, wanted.start, wanted.end)
        return StreamingResponse(pieces, wanted.status, headers, media_type)

    async def _pieces(self, first: bytes, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        piece, offset = first, start
        while True:
            yield piece
            offset += len(piece)
            if offset >= end:
                return
            piece = await self._piece(sha256, offset, end)

    async def _piece(self, sha256: str, start: int, end: int) -> bytes:
        return await self.downloads.firmware.read(sha256, start, min(PIECE_BYTES, end - start))


def _plain(status: HTTPStatus, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{status.phrase}\n", status, headers)


class Gate:
    """Around the endpoint: a limit of requests at a time, an end to stalled ones, a line in the log for each."""

    def __init__(self, app: ASGIApp, settings: FirmwareSettings) -> None:
        self._app = app
        self._free = settings.http_max_parallel
        self._stall_s = settings.http_stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; one that is cut off ends without its last byte, by which the client knows."""
        if scope["type"] != "http":
            return
        facts: dict[str, Any] = scope.setdefault("state", {})
        status, sent_bytes = None, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent_bytes
            async with asyncio.timeout(self._stall_s):
                await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif scope["method"] != "HEAD":
                sent_bytes += len(message.get("body", b""))

        app = self._app if self._free > 0 else _plain(HTTPStatus.SERVICE_UNAVAILABLE, _AGAIN_LATER)
        self._free -= 1
        try:
            await app(scope, receive, counted)
        except TimeoutError:
            facts["reason"] = f"cut off: the client took nothing for {self._stall_s:g} s"
        except (UnavailableError, ImageNotForDeviceError) as error:
            facts["reason"] = f"cut off: {error.message}"
        except asyncio.CancelledError:
            # Only a service that stops cancels a request, and nothing comes after this.
            facts["reason"] = "cut off: the service stops"
        except Exception:
            log.exception("http.crashed", path=scope["path"])
            raise
        finally:
            self._free += 1
            if "sha256" in facts:
                metrics.FIRMWARE_BYTES.labels("http").inc(sent_bytes)
            log.info("http.answered", **_line(scope), **facts, status=status, bytes=sent_bytes)


def _line(scope: Scope) -> dict[str, Any]:
    """Return what a request says of itself; each text may be anybody's, so the path stays encoded."""
    wanted = dict(scope["headers"]).get(b"range")
    client = scope["client"]
    return {
        "method": scope["method"],
        "path": scope["raw_path"][:100].decode("latin-1"),
        "range": wanted and wanted[:100].decode("latin-1"),
        "peer": client and client[0],
    }


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to shared.lifecycle."""
        yield


class Server:
    """Listens from its making on, and serves while `run` runs.

    A port or certificate that can not be used raises InvalidInputError.
    """

    def __init__(self, settings: FirmwareSettings, firmware: Firmware) -> None:
        if settings.keycloak_url is None:
            raise InvalidInputError("MDM_KEYCLOAK_URL: must be given")
        tokens = tokens_of(settings.keycloak_url, settings.keycloak_realm, public_url=settings.keycloak_public_url)
        images = Images(Downloads(firmware), tokens)
        routes = [Route("/firmware/{name}", images.answer, methods=["GET"])]
        if settings.web_dir is not None:
            routes += page.read(settings.web_dir, settings.web_broker_url).routes()
        router = Router(routes, redirect_slashes=False)
        config = uvicorn.Config(
            Gate(router, settings),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # Gate tells what there is to tell
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
            raise InvalidInputError(f"{names}: can not be used: {error}") from error
        self._certificate = Certificate(config)
        self._server = _Uvicorn(config)
        self._socket = _listening(settings)
        log.info("http.listens", host=settings.http_host, port=settings.http_port, tls=config.is_ssl)

    async def run(self) -> None:
        """Serve until cancelled; then let what is under way have a moment, and cut the rest off."""
        serving = asyncio.create_task(self._server.serve([self._socket]), name="uvicorn")
        renewing = asyncio.create_task(self._certificate.keep(), name="certificate")
        try:
            await asyncio.shield(serving)
        finally:
            renewing.cancel()
            self._server.should_exit = True
            await serving


def _listening(settings: FirmwareSettings) -> socket.socket:
    host, port = settings.http_host, settings.http_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InvalidInputError(
            f"MDM_HTTP_HOST, MDM_HTTP_PORT: can not listen on {host}:{port}: {error}"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # What a client that was cut off has not taken would else keep its connection; accepted sockets inherit it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.http_stall_s * 1000))
    return listening
