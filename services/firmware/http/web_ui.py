"""The web page in web/, as built by `make web`: a few files in memory, with security headers.

The page itself connects to the broker over MQTT (ADR 0013); only the broker's address is inserted here.
"""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.errors import InvalidInputError

_INDEX: Final = "index.html"
_PLACE: Final = '<meta name="mdm-broker" content="" />'
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")
_FOREVER: Final = "public, max-age=31536000, immutable"
_GUARDS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The files by path; `{host}` in `broker_url` is the host from which the page was loaded."""

    files: dict[str, bytes]
    broker_url: str

    def routes(self) -> list[Route]:
        """Return the routes of `/` and of the files; anything else is not found."""
        return [Route("/", self._index, methods=["GET"]), Route("/assets/{name}", self._asset, methods=["GET"])]

    async def _index(self, request: Request) -> Response:
        found = _HOST.fullmatch(request.headers.get("host", ""))
        if found is None:
            return PlainTextResponse("Bad Request\n", 400)
        broker = self.broker_url.replace("{host}", found[1])
        place = _PLACE.replace('content=""', f'content="{escape(broker)}"')
        body = self.files[_INDEX].decode().replace(_PLACE, place)
        headers = {**_GUARDS, "content-security-policy": _policy(broker), "cache-control": "no-cache"}
        return Response(body, headers=headers, media_type="text/html")

    async def _asset(self, request: Request) -> Response:
        name = f"assets/{request.path_params['name']}"
        if name not in self.files:
            return PlainTextResponse("Not Found\n", 404)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(self.files[name], headers={**_GUARDS, "cache-control": _FOREVER}, media_type=media_type)


def read(folder: Path, broker_url: str) -> Page:
    """Return the page in a folder, or raise InvalidInputError if there is none."""
    unusable = f"MDM_WEB_DIR: {folder} is not the page that `make web` builds"
    try:
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in (folder / _INDEX, *(folder / "assets").iterdir())
        }
    except OSError as error:
        raise InvalidInputError(f"{unusable}: {error}") from error
    if _PLACE not in files[_INDEX].decode():
        raise InvalidInputError(f"{unusable}: it has no place for the broker's address")
    return Page(files, broker_url)


def _policy(broker: str) -> str:
    parts = urlsplit(broker)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src {parts.scheme}://{parts.netloc}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
