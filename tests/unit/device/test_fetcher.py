from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from device.download import Wish
from device.fetcher import Failure, Fetcher
from device.options import Options
from tests.unit.device.kit import package

DATA = bytes(range(256)) * 4
CHUNK = 100
WISH = Wish("a" * 64, len(DATA), CHUNK, 1)
OPTIONS = Options(backoff_min_s=0.001, answer_timeout_s=5, http_attempts=3)
TOKEN = json.dumps({"access_token": "t"}).encode()


def answer(status: str, body: bytes = b"", *, claimed_bytes: int | None = None) -> bytes:
    length = len(body) if claimed_bytes is None else claimed_bytes
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + body


@dataclass
class Server:
    """Gives the same token again and again, and to each request for the image what the test wants."""

    images: list[Callable[[str], bytes]] = field(default_factory=list)
    token: bytes = TOKEN
    requests: list[str] = field(default_factory=list)
    tokens: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if request.startswith("post /token"):
            self.tokens += 1
            writer.write(answer("200 OK", self.token))
        else:
            self.requests.append(request)
            turn = min(len(self.requests), len(self.images)) - 1
            writer.write(self.images[turn](request))
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    playing = Server()
    listening = await asyncio.start_server(playing.serve, "127.0.0.1", 0)
    playing.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield playing
    listening.close()


async def fetched(server: Server, offset: int = 0, *, url: str | None = None) -> tuple[bytes, Failure | None]:
    """Fetch until all is there or nothing more will come; return the image as the pieces make it."""
    fetcher = Fetcher(lambda: package(token_url=f"{server.url}/token"), OPTIONS, lambda: SecretStr("s"))
    image = bytearray(len(DATA))
    image[:offset] = DATA[:offset]
    fetcher.start(url or f"{server.url}/image", WISH, offset)
    failure: Failure | None = None
    async with asyncio.timeout(10):
        while failure is None and image != DATA:
            found = await fetcher.receive()
            assert found.sha256 == WISH.sha256
            if isinstance(found, Failure):
                failure = found
                continue
            assert found.offset % CHUNK == 0
            assert len(found.data) == min(CHUNK, len(DATA) - found.offset)
            image[found.offset : found.offset + len(found.data)] = found.data
    fetcher.stop()
    assert not fetcher.is_busy
    return bytes(image), failure


def whole(_request: str) -> bytes:
    return answer("200 OK", DATA)


def part(request: str) -> bytes:
    start = int(request.partition("range: bytes=")[2].partition("-")[0])
    return answer("206 Partial Content", DATA[start:])


def refusing(status: str) -> Callable[[str], bytes]:
    return lambda _request: answer(status)


def breaking(sent_bytes: int) -> Callable[[str], bytes]:
    return lambda _request: answer("200 OK", DATA[:sent_bytes], claimed_bytes=len(DATA))


async def test_the_whole_comes_in_chunks_of_the_wished_length(server: Server) -> None:
    server.images = [whole]
    assert await fetched(server) == (DATA, None)
    assert "authorization: bearer t\r\n" in server.requests[0]
    assert "range:" not in server.requests[0]


async def test_the_rest_is_asked_for_with_range_and_only_of_the_same_image(server: Server) -> None:
    server.images = [part]
    assert await fetched(server, 300) == (DATA, None)
    assert "\r\nrange: bytes=300-\r\n" in server.requests[0]
    assert f'if-range: "{WISH.sha256}"\r\n' in server.requests[0]


async def test_a_server_that_ignores_ranges_sends_the_whole_again(server: Server) -> None:
    server.images = [whole]
    assert await fetched(server, 300) == (DATA, None)


async def test_what_breaks_off_is_gone_on_with_where_whole_chunks_end(server: Server) -> None:
    server.images = [breaking(250), part]
    assert await fetched(server) == (DATA, None)
    assert "range: bytes=200-\r\n" in server.requests[1]


async def test_a_token_that_is_refused_is_followed_by_another_one(server: Server) -> None:
    server.images = [refusing("401 Unauthorized"), whole]
    assert await fetched(server) == (DATA, None)
    assert server.tokens == 2


@pytest.mark.parametrize("status", ["401 Unauthorized", "503 Service Unavailable", "500 Oops", "429 Slowly"])
async def test_what_may_pass_is_tried_three_times(server: Server, status: str) -> None:
    server.images = [refusing(status)]
    _, failure = await fetched(server)
    assert failure is not None
    assert status[:3] in failure.reason
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "416 Range", "302 Found", "204 Nothing"])
async def test_what_will_not_change_is_not_tried_again(server: Server, status: str) -> None:
    server.images = [refusing(status)]
    _, failure = await fetched(server)
    assert failure == Failure(WISH.sha256, f"FetchRefusedError: the server answers {status[:3]}")
    assert len(server.requests) == 1


async def test_progress_begins_the_count_of_attempts_anew(server: Server) -> None:
    def breaks_early(request: str) -> bytes:
        start = int(request.partition("range: bytes=")[2].partition("-")[0])
        return answer("206 Partial Content", DATA[start : start + 150], claimed_bytes=len(DATA) - start)

    server.images = [breaking(150), breaks_early]
    assert await fetched(server) == (DATA, None)
    assert len(server.requests) > OPTIONS.http_attempts


async def test_a_shorter_image_is_a_failure_and_no_wait_for_ever(server: Server) -> None:
    server.images = [lambda _request: answer("200 OK", DATA[:500])]
    _, failure = await fetched(server)
    assert failure == Failure(WISH.sha256, "FetchRefusedError: the server's image ends at 500")


@pytest.mark.parametrize("token", [b"{}", b"[]", b"not json", b'"text"'])
async def test_keycloak_without_a_token_is_a_failure(server: Server, token: bytes) -> None:
    server.token = token
    _, failure = await fetched(server)
    assert failure == Failure(WISH.sha256, "UnavailableError: Keycloak's answer has no token")


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:1/image", "http://127.0.0.1:99999/"])
async def test_a_url_of_no_use_is_a_failure(server: Server, url: str) -> None:
    _, failure = await fetched(server, url=url)
    assert failure is not None


async def test_what_was_fetched_before_a_stop_is_not_handed_over_after_it(server: Server) -> None:
    server.images = [whole]
    fetcher = Fetcher(lambda: package(token_url=f"{server.url}/token"), OPTIONS, lambda: SecretStr("s"))
    fetcher.start(f"{server.url}/image", WISH, 0)
    first = await fetcher.receive()
    fetcher.stop()
    fetcher.start(f"{server.url}/image", WISH, 0)
    assert await fetcher.receive() == first
    fetcher.stop()
