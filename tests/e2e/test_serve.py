"""`make serve`: what was there before it was killed is there again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from cli import profile as profiles
from cli.client import Admin
from cli.profile import Profile
from dev import serve, stack
from dev.credentials import broker_accepts, keycloak_accepts
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.servers.base import HOST
from shared.protocol import admin

COMMAND = [sys.executable, "-m", "dev.serve"]


@asynccontextmanager
async def asked(profile: Profile, folder: Path) -> AsyncIterator[Fleet]:
    async with Admin(profile) as client, watching(client) as witness:
        yield Fleet(client, witness, folder)


FIRST_PORTS = range(30_000, 32_700, len(serve.LISTENERS))
"""Above those of `free_port`, some of which belong to servers that are not up, and below outgoing connections."""


def free_ports() -> int:
    """Return the first of enough free ports in a row."""
    for first in random.sample(FIRST_PORTS, len(FIRST_PORTS)):
        with suppress(serve.UnusableError):
            serve._check_ports({str(port): port for port in range(first, first + len(serve.LISTENERS))})
            return first
    raise AssertionError


@contextmanager
def serving(folder: Path, first_port: int, *, end: signal.Signals) -> Iterator[Profile]:
    command = [*COMMAND, "--data", str(folder), "--first-port", str(first_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("Ctrl-C stops everything" in line for line in process.stdout)
            yield Profile.model_validate(profiles.read(folder / "profile.toml"))
        finally:
            process.send_signal(end)
            process.wait(timeout=90)


async def test_it_goes_on_with_the_same_data_after_it_was_killed() -> None:
    first_port = free_ports()
    with stack.scratch("serve-") as folder:
        with serving(folder, first_port, end=signal.SIGKILL) as profile:
            async with asked(profile, folder) as fleet:
                package = await fleet.device()
        with serving(folder, first_port, end=signal.SIGINT) as profile:
            async with asked(profile, folder) as fleet:
                found = await fleet.ask(admin.DEVICE_LIST)
            assert [it.client_id for it in found.devices] == [package.client_id]
            assert await broker_accepts(package)
            assert await keycloak_accepts(package)


def refused(*arguments: str) -> str:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


def test_a_port_or_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with stack.scratch("serve-") as folder, socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused("--data", str(folder), "--first-port", str(port))
        assert said.startswith(f"error: --first-port: port {port}, for database, cannot be used: ")
        with serve._held(folder):
            assert refused("--data", str(folder)) == f"error: --data: {folder} is in use by another system\n"
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        assert "may not enter" in refused("--data", str(closed / "data"))
    with pytest.raises(serve.UnusableError, match="cannot be used"):
        serve._check_ports({"database": 70000})
