"""Two nodes of RMQTT, with the clients in Keycloak by which services and an admin log in to them."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from pydantic import SecretStr

from cli.profile import Profile
from deploy import certificates, rmqtt
from deploy.broker import ACCOUNTS
from dev.credentials import keycloak_admin
from dev.servers.base import HOST, Leash, Process, free_port
from dev.servers.mosquitto import answers
from dev.stack import Stack

NAMES = tuple(name for name in ACCOUNTS if name != "svc-accounts")


def program() -> str | None:
    """Return where rmqttd is, by the variable RMQTTD or on the path."""
    return shutil.which(os.environ.get("RMQTTD", "rmqttd"))


@dataclass(frozen=True, slots=True)
class Nodes:
    """The running cluster; by its two ports devices come to the first node, services to the second, if it runs."""

    plan: rmqtt.Cluster
    processes: tuple[Process, ...]
    devices_port: int
    services_port: int
    token_url: str

    @property
    def settings(self) -> dict[str, str]:
        """What the services need to know of it."""
        return {
            "MDM_BROKER_AUTH": "token",
            "MDM_BROKER_API_URLS": " ".join(node.api_url for node in self.plan.nodes),
            "MDM_BROKER_API_TOKEN": self.plan.api_token,
            "MDM_MQTT_TOKEN_URL": self.token_url,
        }

    def profile(self, stack: Stack) -> Profile:
        """Return how an admin connects."""
        return Profile(
            host=HOST,
            port=self.services_port,
            account="admin",
            password=SecretStr(stack.endpoints.accounts["admin"]),
            token_url=self.token_url,
        )

    def behind(self, stack: Stack) -> Stack:
        """Return the stack with this cluster in the place of its broker."""
        endpoints = replace(
            stack.endpoints, mqtt_port=self.services_port, device_mqtt_port=self.devices_port, mqtt_host=HOST
        )
        return replace(stack, endpoints=endpoints)


async def make_clients(stack: Stack) -> None:
    """Make the clients of services and admin, with the passwords that they have in the other broker."""
    endpoints = stack.endpoints
    async with keycloak_admin(endpoints) as keycloak:
        for name in NAMES:
            made = rmqtt.client(name, endpoints.accounts[name])
            (await keycloak.post(f"/admin/realms/{endpoints.realm}/clients", json=made)).raise_for_status()


@contextmanager
def running(stack: Stack) -> Iterator[Nodes]:
    """Start both nodes and stop them at the end of the block."""
    endpoints = stack.endpoints
    realm_url = f"{endpoints.keycloak_url}/realms/{endpoints.realm}"
    certificate = certificates.ensure_server_certificate(endpoints.ca_file.parent, ["localhost", HOST])
    plan = rmqtt.Cluster(
        nodes=tuple(rmqtt.Node(number, HOST, *(free_port() for _ in range(4))) for number in (1, 2)),
        issuer=realm_url,
        realm_key=rmqtt.pem(httpx.get(realm_url).raise_for_status().json()["public_key"]),
        certificate_file=certificate.certificate,
        key_file=certificate.key,
        api_token=secrets.token_urlsafe(24),
    )
    with ExitStack() as cleanup:
        leash = Leash()
        cleanup.callback(leash.close)
        first, second = plan.nodes
        processes = tuple(_process(stack, node, plan, leash) for node in plan.nodes)
        devices_port, services_port = free_port(), free_port()
        balancers = (
            _balancer(stack, devices_port, [first.devices_port, second.devices_port], leash),
            _balancer(stack, services_port, [second.services_port, first.services_port], leash),
        )
        for process in (*processes, *balancers):
            cleanup.callback(process.stop)
            process.start()
        token_url = f"{realm_url}/protocol/openid-connect/token"
        yield Nodes(plan, processes, devices_port, services_port, token_url)


def _process(stack: Stack, node: rmqtt.Node, plan: rmqtt.Cluster, leash: Leash) -> Process:
    configuration = rmqtt.write_files(stack.folder / f"rmqtt-{node.id}", node, plan)
    return Process(
        f"rmqtt-{node.id}",
        stack.folder / "logs" / f"rmqtt-{node.id}.log",
        lambda: answers(node.services_port),
        [program() or "", "-f", configuration],
        leash=leash,
    )


def _balancer(stack: Stack, port: int, nodes: Sequence[int], leash: Leash) -> Process:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    command = [sys.executable, "-m", "tests.cluster.balancer", str(port), *map(str, nodes)]
    root = str(Path(__file__).parents[2])
    log_file = stack.folder / "logs" / f"balancer-{port}.log"
    return Process(f"balancer-{port}", log_file, listens, command, leash=leash, environment={"PYTHONPATH": root})
