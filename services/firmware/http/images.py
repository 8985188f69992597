"""Images over HTTP(S): `GET` and `HEAD` of /firmware/latest and /firmware/{sha256}."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.firmware.assignment.service import ImageNotForDeviceError, ImageUnknownError
from services.firmware.http import ranges
from services.firmware.http.authorization import Downloads
from shared.auth.tokens import TokenRefusedError, Tokens
from shared.database.tables import FirmwareImage
from shared.errors import UnavailableError
from shared.runtime import metrics
from shared.runtime.settings import FirmwareSettings

log = structlog.get_logger()
PIECE_BYTES: Final = 64 * 1024
RETRY_AFTER_S: Final = 5
_LATEST: Final = "latest"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)
_CONDITIONS: Final = ("if-match", "if-none-match", "if-range")
_AGAIN_LATER: Final = {"retry-after": str(RETRY_AFTER_S)}


@dataclass(frozen=True, slots=True)
class ImageEndpoint:
    """The endpoint; it leaves facts about a request in `request.state` for the log.

    `accel` is the location of nginx below which it finds the stored images; None: the endpoint sends them itself.
    """

    downloads: Downloads
    tokens: Tokens
    accel: str | None

    async def answer(self, request: Request) -> Response:
        """Return an image, a range of it, or an error with its reason."""
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
        wanted = ranges.reply(request.headers, etag=etag, size_bytes=size_bytes, is_get=is_get)
        if wanted.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _plain(wanted.status, {"content-range": f"bytes */{size_bytes}"})
        headers = {"etag": etag, "accept-ranges": "bytes"}
        if wanted.status == HTTPStatus.NOT_MODIFIED:
            return Response(status_code=wanted.status, headers=headers)
        if wanted.status == HTTPStatus.PRECONDITION_FAILED:
            return _plain(wanted.status, headers)
        media_type = "application/octet-stream"
        # nginx does not know our tag before it has the file, so that it cannot compare it.
        if is_get and self.accel is not None and not any(name in request.headers for name in _CONDITIONS):
            path = await self.downloads.assignment.firmware.store.path(image.sha256)
            return Response(headers={"etag": etag, "x-accel-redirect": self.accel + path}, media_type=media_type)
        headers["content-length"] = str(wanted.end - wanted.start)
        if wanted.status == HTTPStatus.PARTIAL_CONTENT:
            headers["content-range"] = f"bytes {wanted.start}-{wanted.end - 1}/{size_bytes}"
        if not is_get:
            return Response(status_code=wanted.status, headers=headers, media_type=media_type)
        # The first chunk is read before the response begins, while an error can still be returned.
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
        return await self.downloads.assignment.read(sha256, start, min(PIECE_BYTES, end - start))


def _plain(status: HTTPStatus, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{status.phrase}\n", status, headers)


class Gate:
    """Middleware of the endpoint: limits concurrent requests, aborts stalled ones, and logs each."""

    def __init__(self, app: ASGIApp, settings: FirmwareSettings) -> None:
        self._app = app
        self._free = settings.http_max_parallel
        self._stall_s = settings.http_stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; an aborted one ends without its last byte, so that the client notices."""
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
            facts["reason"] = f"cut off: the client read nothing for {self._stall_s:g} s"
        except (UnavailableError, ImageNotForDeviceError) as error:
            facts["reason"] = f"cut off: {error.message}"
        except asyncio.CancelledError:
            # Only a shutdown cancels a request, and nothing follows.
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
    """Return the facts of a request; a client controls each text, so the path stays encoded."""
    wanted = dict(scope["headers"]).get(b"range")
    client = scope["client"]
    return {
        "method": scope["method"],
        "path": scope["raw_path"][:100].decode("latin-1"),
        "range": wanted and wanted[:100].decode("latin-1"),
        "peer": client and client[0],
    }
