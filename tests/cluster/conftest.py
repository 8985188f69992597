"""A real cluster with the services on it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.client import Admin
from dev import stack as stack_module
from dev import system as system_module
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from tests.cluster import nodes as nodes_module
from tests.cluster.nodes import Nodes


@dataclass(frozen=True, slots=True)
class Ground:
    """A cluster with the services on it; devices come to the first node, services and admin to the second."""

    nodes: Nodes
    system: System
    admin: Admin


@pytest.fixture(scope="session")
def bare_stack() -> Iterator[Stack]:
    """A stack of its own: its database must not be worked on by services on another broker."""
    if nodes_module.program() is None:
        pytest.skip("no rmqttd on the path: cargo install rmqttd --locked, or name one by RMQTTD")
    with tempfile.TemporaryDirectory(prefix="device-mdm-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with stack_module.running(folder) as running:
            yield running


@pytest.fixture(scope="session")
async def cluster_stack(bare_stack: Stack) -> Stack:
    await nodes_module.make_clients(bare_stack)
    return bare_stack


@pytest.fixture(scope="session")
def nodes(cluster_stack: Stack) -> Iterator[Nodes]:
    with nodes_module.running(cluster_stack) as running:
        yield running


@pytest.fixture(scope="session")
def system(cluster_stack: Stack, nodes: Nodes) -> Iterator[System]:
    settings = {"MDM_ROTATION_DEADLINE_S": "8", "MDM_LEADER_LEASE_S": "2", **nodes.settings}
    with system_module.running(nodes.behind(cluster_stack), **settings) as running:
        yield running


@pytest.fixture(scope="session")
async def ground(system: System, nodes: Nodes) -> AsyncIterator[Ground]:
    async with Admin(nodes.profile(system.stack)) as admin:
        yield Ground(nodes, system, admin)


@pytest.fixture
async def fleet(ground: Ground, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with watching(ground.admin) as witness:
        yield Fleet(ground.admin, witness, tmp_path)
