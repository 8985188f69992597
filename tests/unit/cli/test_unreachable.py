"""Each reason for having no connection is a sentence of its own, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli import client
from cli.profile import Profile
from deploy import certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def broker(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(closed, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(bytes([0x20, 3, 0, 0x86, 0]))  # CONNACK: bad user name or password
    await writer.drain()


async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read(1)


async def is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read()


async def reason(port: int, *, host: str = "127.0.0.1", ca_file: Path | None = None, timeout_s: float = 10) -> str:
    profile = Profile(host=host, port=port, account="alice", password=SecretStr("x"), ca_file=ca_file)
    with pytest.raises(client.CannotConnectError) as caught:
        async with client.Admin(profile, timeout_s=timeout_s):
            pass
    return caught.value.message


async def test_a_wrong_password_is_named() -> None:
    async with broker(refuses) as port:
        said = await reason(port)
    assert said == (
        f"the broker at 127.0.0.1:{port} refuses the account alice or its password; `mdm login` sets both"
    )


async def test_a_port_that_wants_tls_is_named_at_once() -> None:
    async with broker(ends) as port, asyncio.timeout(5):
        assert "it closes the connection; if it requires TLS, set --ca-file" in await reason(port)


async def test_a_dead_broker_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        said = await reason(unused.getsockname()[1])
    assert "nothing listens there; check that the broker is running, and --port" in said


async def test_a_host_that_is_unknown_is_named() -> None:
    assert "the host none.invalid is unknown" in await reason(1883, host="none.invalid")


async def test_the_timeout_holds_for_connecting_too() -> None:
    begun = time.monotonic()
    async with broker(is_silent) as port:
        assert "no answer within 0.5 s" in await reason(port, timeout_s=0.5)
    assert time.monotonic() - begun < 5


def server(folder: Path, *hosts: str) -> ssl.SSLContext:
    files = certificates.ensure_server_certificate(folder, hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


async def test_a_certificate_that_is_not_trusted_is_named(tmp_path: Path) -> None:
    other = certificates.ensure_authority(tmp_path / "other").certificate
    async with broker(is_silent, server(tmp_path / "own", "127.0.0.1")) as port:
        said = await reason(port, ca_file=other)
    assert said == (
        f"127.0.0.1:{port} cannot be trusted: its certificate is of no authority in {other}; check --ca-file"
    )


async def test_a_certificate_of_another_host_is_named(tmp_path: Path) -> None:
    own = certificates.ensure_authority(tmp_path).certificate
    async with broker(is_silent, server(tmp_path, "broker.test")) as port:
        said = await reason(port, ca_file=own)
    assert "its certificate is of another host than 127.0.0.1; check --host" in said


async def test_a_port_without_tls_is_named(tmp_path: Path) -> None:
    own = certificates.ensure_authority(tmp_path).certificate
    async with broker(ends) as port:
        said = await reason(port, ca_file=own)
    assert "with TLS: the port seems to be one without; check --port and --ca-file" in said
