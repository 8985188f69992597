"""Services as processes: they say that they are there, end cleanly, and name what is wrong with their settings."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.credentials import account_client
from dev.servers.base import Process
from dev.servers.fork_server import run_forked
from dev.stack import OWNER
from dev.system import SERVICES, System
from shared.protocol import topics
from shared.protocol.messages import ServiceStatus


async def status(system: System, pid: int, *, online: bool, role: str | None = None) -> ServiceStatus:
    """Wait for what the process says of itself, or the broker of it; with `role`, until it has this one."""
    async with account_client(system.stack.endpoints, "admin") as client:
        await client.subscribe(topics.SERVICE_STATUS.filter, qos=1)
        async with asyncio.timeout(20):
            async for message in client.messages:
                names = topics.SERVICE_STATUS.match(str(message.topic))
                assert names is not None
                assert isinstance(message.payload, bytes)
                said = topics.SERVICE_STATUS.decode(message.payload)
                if names["instance"].endswith(f"-{pid}") and said.online == online and role in {None, said.role}:
                    return said
    raise AssertionError


async def start(system: System, service: str) -> Process:
    return await asyncio.to_thread(lambda: system.start(service, name=f"another-{service}"))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_ends_cleanly_within_5_seconds_of_sigterm_and_says_so(
    system: System, service: str
) -> None:
    process = await start(system, service)
    pid = process.pid
    await status(system, pid, online=True)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await asyncio.to_thread(process.wait)
    await status(system, pid, online=False)
    assert "Traceback" not in process.log_tail(50)
    system.stop(f"another-{service}")


async def test_the_broker_says_that_a_killed_service_is_gone(system: System) -> None:
    process = await start(system, "firmware")
    pid = process.pid
    system.services.pop("another-firmware")
    await asyncio.to_thread(process.kill)
    await status(system, pid, online=False)


async def test_one_rotator_says_that_it_leads_and_the_other_that_it_stands_by(system: System) -> None:
    # One that was restarted may not lead yet.
    await status(system, system.services["rotator"].pid, online=True, role="leader")
    another = await start(system, "rotator")
    assert (await status(system, system.services["rotator"].pid, online=True)).role == "leader"
    assert (await status(system, another.pid, online=True)).role == "standby"
    await asyncio.to_thread(system.stop, "another-rotator")


def refused(module: str, environment: dict[str, str]) -> str:
    """Start a service that must not come up; return its only line."""
    ran = run_forked(module, environment=environment, folder=Path("/"))
    assert ran.status == 1
    [line] = ran.errors.splitlines()
    return line


@pytest.mark.parametrize("service", SERVICES)
def test_wrong_settings_end_the_start_with_their_names(system: System, service: str) -> None:
    environment = {
        **system.environment(service),
        "MDM_MQTT_PORT": "99999",
        "MDM_LOG_FORMAT": "xml",
        "MDM_MQTT_PASSWORD_FILE": "/etc/hostname",
        "MDM_ROTATION_DEADLNE_S": "60",
        "MDM_DATABASE_URL": "",
        "MDM_DATABASE_URL_FILE": "/nowhere",
    }
    line = refused(f"services.{service}.main", environment)
    assert line.startswith(
        f"{service}: MDM_ROTATION_DEADLNE_S: there is no such setting; did you mean MDM_ROTATION_D"
    )
    for fault in (
        "MDM_DATABASE_URL_FILE: /nowhere cannot be read: No such file or directory",
        "MDM_MQTT_PASSWORD, MDM_MQTT_PASSWORD_FILE: only one of both may be given",
        "MDM_MQTT_PORT: Input should be less than or equal to 65535",
        "MDM_LOG_FORMAT: Input should be 'json' or 'console'",
    ):
        assert fault in line
    assert environment["MDM_MQTT_PASSWORD"] not in line


@pytest.mark.parametrize(
    ("service", "name", "value", "rule"),
    [
        ("registry", "MDM_DATABASE_URL", "mysql://u:p@host/db", "must be postgresql+asyncpg://"),
        ("registry", "MDM_DEVICE_CA_FILE", "/nowhere", "/nowhere cannot be read"),
        ("rotator", "MDM_KEYCLOAK_URL", "keycloak", "String should match pattern"),
        ("rotator", "MDM_MASTER_KEYS", "short", "each key must be 32 bytes in base64url"),
        ("rotator", "MDM_LEADER_POLL_S", "2", "must be less than MDM_LEADER_LEASE_S"),
        ("firmware", "MDM_ASSETS_URL", "nowhere", "expected file:///path, s3://bucket/prefix or memory:///"),
        ("firmware", "MDM_ASSETS_DIR", "/proc/nowhere", "/proc/nowhere cannot be used"),
        ("firmware", "MDM_COREDUMPS_KEPT", "1", "must be at least MDM_COREDUMPS_PER_HOUR"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_its_rule(
    system: System, service: str, name: str, value: str, rule: str
) -> None:
    line = refused(f"services.{service}.main", {**system.environment(service), name: value})
    assert line.startswith(f"{service}: {name}: ")
    assert rule in line


@pytest.mark.parametrize("service", SERVICES)
def test_a_port_of_metrics_that_is_taken_ends_the_start(system: System, service: str) -> None:
    port = str(system.metrics_ports["registry"])
    line = refused(f"services.{service}.main", {**system.environment(service), "MDM_METRICS_PORT": port})
    assert line == f"{service}: MDM_METRICS_PORT: cannot listen on {port}: Address already in use"


def test_migrations_need_to_know_the_database(system: System, tmp_path: Path) -> None:
    migrate = [sys.executable, "-m", "shared.database.migrate"]
    ran = subprocess.run(migrate, capture_output=True, text=True, env={}, timeout=60, check=False)
    assert ran.returncode == 1
    assert ran.stderr == "migrate: MDM_DATABASE_URL: must be given, or MDM_DATABASE_URL_FILE\n"
    file = tmp_path / "url"
    file.write_text(f"{system.stack.endpoints.database_users[OWNER]}\n")
    subprocess.run(migrate, env={"MDM_DATABASE_URL_FILE": str(file)}, timeout=60, check=True)


async def test_a_service_runs_on_secrets_from_files(system: System, tmp_path: Path) -> None:
    given = system.environment("rotator")
    in_files: dict[str, str] = {}
    for name in (
        *(name for name in given if name.endswith(("_PASSWORD", "_SECRET", "_KEYS"))),
        "MDM_DATABASE_URL",
    ):
        (tmp_path / name).write_text(f"{given[name]}\n")
        in_files |= {name: "", f"{name}_FILE": str(tmp_path / name)}
    assert len(in_files) == 10
    process = await asyncio.to_thread(
        lambda: system.start("rotator", name="another-rotator", fate=None, **in_files)
    )
    assert (await status(system, process.pid, online=True)).role == "standby"
    await asyncio.to_thread(system.stop, "another-rotator")
