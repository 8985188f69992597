"""Download of an image over HTTP(S), concurrent with the connection to the broker."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx
from pydantic import SecretStr

from device.download import Wish
from device.link import trust_of
from device.options import Options
from shared.auth import client_token
from shared.auth.client_token import CredentialsRefusedError
from shared.errors import FleetError, UnavailableError
from shared.protocol.admin import Package

_QUEUE_LENGTH: Final = 2
# Statuses that may be temporary; any other will be the same on a retry.
_PASSING: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class ImagePiece:
    """A chunk of an image, as over MQTT."""

    sha256: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The image cannot be fetched over HTTP now."""

    sha256: str
    reason: str


class FetchRefusedError(FleetError):
    """A retry would get the same answer from the server."""

    code = "fetch_refused"


class Fetcher:
    """Fetches one image at a time; after a broken connection it requests the rest.

    `package` returns the package as of the present connection, `secret` the secret that should be in force in
    Keycloak.
    """

    def __init__(self, package: Callable[[], Package], options: Options, secret: Callable[[], SecretStr]) -> None:
        self._package = package
        self._options = options
        self._secret = secret
        self._fetched: asyncio.Queue[ImagePiece | Failure] = asyncio.Queue(_QUEUE_LENGTH)
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an image is being fetched."""
        return self._task is not None

    def start(self, url: str, wish: Wish, offset: int) -> None:
        """Fetch an image from `offset`, the start of a chunk, to its end; cancel a fetch that is in progress.

        Raise InvalidInputError if the package's authority cannot be read.
        """
        self.stop()
        package = self._package()
        run = self._run(package, trust_of(package), url, wish, offset)
        self._task = asyncio.create_task(run, name=f"fetch:{package.client_id}")

    def stop(self) -> None:
        """Cancel the fetch that is in progress."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        while not self._fetched.empty():
            self._fetched.get_nowait()

    async def receive(self) -> ImagePiece | Failure:
        """Wait for the next chunk, or for the failure."""
        return await self._fetched.get()

    async def _run(self, package: Package, trust: ssl.SSLContext, url: str, wish: Wish, offset: int) -> None:
        try:
            async with httpx.AsyncClient(verify=trust, timeout=self._options.answer_timeout_s) as client:
                await self._fetch(client, package, url, wish, offset)
        except Exception as error:  # noqa: BLE001 - after any error of a URL, chunks over MQTT remain
            await self._fetched.put(Failure(wish.sha256, f"{type(error).__name__}: {error}"))

    async def _fetch(self, client: httpx.AsyncClient, package: Package, url: str, wish: Wish, offset: int) -> None:
        """Fetch to the end, with as many requests as necessary, unless too many in a row bring nothing."""
        failures, token = 0, None
        while True:
            begun_at = offset
            try:
                token = token or await client_token.fetch(
                    client, package.token_url, package.client_id, self._secret()
                )
                async with aclosing(self._pieces(client, token, url, wish, offset)) as pieces:
                    async for piece in pieces:
                        await self._fetched.put(piece)
                        offset = piece.offset + len(piece.data)
            except (httpx.HTTPError, CredentialsRefusedError, UnavailableError):
                failures = 0 if offset > begun_at else failures + 1
                if failures >= self._options.http_attempts:
                    raise
            else:
                if offset != wish.size_bytes:
                    raise FetchRefusedError(f"the server's image ends at {offset}")
                return
            # The token may have expired, or belong to a secret that is no longer in force.
            token = None
            await asyncio.sleep(self._options.backoff_min_s * 2.0**failures)

    async def _pieces(
        self, client: httpx.AsyncClient, token: str, url: str, wish: Wish, offset: int
    ) -> AsyncGenerator[ImagePiece, None]:
        headers = {"Authorization": f"Bearer {token}"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": f'"{wish.sha256}"'}
        async with client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == HTTPStatus.OK:
                offset = 0
            elif answer.status_code != HTTPStatus.PARTIAL_CONTENT:
                if answer.status_code in _PASSING or answer.is_server_error:
                    answer.raise_for_status()
                raise FetchRefusedError(f"the server answers {answer.status_code}")
            async for data in answer.aiter_raw(wish.chunk_size_bytes):
                yield ImagePiece(wish.sha256, offset, data)
                offset += len(data)
