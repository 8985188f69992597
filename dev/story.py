"""The demo of `make run`: the main use cases, from an empty system to a fleet of one.

Each line is printed when its result has been observed; the first failure ends the demo.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from cli.client import Admin
from dev import credentials, stack, system
from dev.crash_injection import CrashPoint
from dev.device_kinds import ALL, REFERENCE, DeviceKind, Powered
from dev.event_recorder import watching
from dev.narrator import Narrator, StoryError
from dev.servers.base import HOST
from dev.waiting import NotSeenError
from device import image_builder
from shared.protocol import events
from shared.protocol.admin import Package

MODEL = "blink"
_ROTATION: Final = (
    events.ROTATION_OFFERED,
    events.ROTATION_DELIVERED,
    events.ROTATION_STORED,
    events.ROTATION_SWITCHED,
    events.ROTATION_COMPLETED,
)
DEADLINE_S = 6


@dataclass(frozen=True, slots=True)
class Esp32:
    """One device without hardware: its kind, its package, and the folder that is its flash."""

    kind: DeviceKind
    model: str
    package: Package
    state: Path

    def powered(self, *, cut_at: str | None = None) -> AbstractAsyncContextManager[Powered]:
        """Run the device until the block ends, or until its power is cut at a point."""
        return self.kind.powered(
            self.package,
            self.state,
            cut_at=None if cut_at is None else CrashPoint(cut_at, 1),
            image=image_builder.build(version="1.0.0", project=self.model),
            log=self.state.parent / "logs" / "device.log",
        )


async def run_demo(narrator: Narrator, running: system.System, kind: DeviceKind, model: str) -> Esp32:
    """Run the whole demo and return the device, which is switched off."""
    folder = running.stack.folder
    narrator.chapter("A device gets an identity")
    await narrator.mdm("model", "add", model, "--chip", "esp32")
    added = await narrator.mdm("device", "add", "--model", model, "--name", "kitchen-light")
    client_id = narrator.client_id = added["client_id"]
    narrator.done(f"model {model} and device {client_id} added")
    file = folder / f"package-{client_id}.json"
    await narrator.mdm("device", "provision", client_id, "--output", file)
    package = Package.model_validate_json(file.read_bytes())
    narrator.check(await credentials.keycloak_accepts(package), "Keycloak issues a token to the device")
    narrator.check(await credentials.broker_accepts(package), "the broker accepts the device, over TLS")

    esp32 = Esp32(kind, model, package, folder / client_id)
    async with esp32.powered():
        await narrator.seen(events.DEVICE_ONLINE)
        narrator.done("device online")
        await _configuration(narrator, client_id)
        await _firmware(narrator, esp32, folder)
        await _rotation(narrator, client_id, package)
    await _timeout(narrator, client_id, esp32)
    return esp32


async def _configuration(narrator: Narrator, client_id: str) -> None:
    narrator.chapter("A device gets its configuration")
    await narrator.seen(events.CONFIG_REPORTED, version=1, outcome="applied")
    narrator.done("version 1, the model's defaults, requested and applied")
    await narrator.mdm("device", "config", "set", client_id, "led.color=red", "interval_s=30")
    await narrator.seen(events.CONFIG_REPORTED, version=2, outcome="applied")
    narrator.done("version 2 pushed and applied")


async def _firmware(narrator: Narrator, esp32: Esp32, folder: Path) -> None:
    narrator.chapter("A device gets new firmware")
    image = folder / f"{esp32.model}-1.1.0.bin"
    image.write_bytes(image_builder.build(version="1.1.0", project=esp32.model, payload=200_000))
    await narrator.mdm("firmware", "upload", image, "--model", esp32.model)
    narrator.done(f"image 1.1.0 checked and stored ({image.stat().st_size} bytes)")
    for stage in ("downloading", "verifying", "rebooting", "confirmed"):
        await narrator.seen(events.FIRMWARE_REPORTED, stage=stage)
        narrator.done(f"device: {stage}")
    shown = await narrator.mdm("device", "show", esp32.package.client_id)
    narrator.check(shown["firmware_version"] == "1.1.0", "firmware 1.0.0 -> 1.1.0 delivered and confirmed")


async def _rotation(narrator: Narrator, client_id: str, package: Package) -> None:
    narrator.chapter("A device gets a new secret")
    await narrator.mdm("rotate", client_id)
    for step in _ROTATION:
        await narrator.seen(step)
        narrator.done(f"rotation {step.verb}")
    shown = await narrator.mdm("device", "show", client_id)
    narrator.check(shown["secret_generation"] == 2, "the device's secret is generation 2")
    narrator.check(not await credentials.keycloak_accepts(package), "the old secret is refused by Keycloak")
    narrator.check(not await credentials.broker_accepts(package), "the old secret is refused by the broker")


async def _timeout(narrator: Narrator, client_id: str, esp32: Esp32) -> None:
    narrator.chapter("A device loses its power in the middle of a rotation")
    async with esp32.powered(cut_at="publish.rotation.stored:after") as power:
        await narrator.seen(events.DEVICE_ONLINE)
        await narrator.mdm("rotate", client_id)
        await narrator.seen(events.ROTATION_SWITCHED)
        narrator.done("secret switched in Keycloak and in the broker")
        await power.failed()
        narrator.done("the device lost its power before it could log in with the new secret")
    timed_out = await narrator.seen(events.ROTATION_TIMED_OUT)
    narrator.check(
        events.ROTATION_TIMED_OUT.read(timed_out).at_step == "RESTORING",
        "timed out: the old secret was restored in Keycloak and the broker",
    )
    async with esp32.powered():
        await narrator.seen(events.DEVICE_ONLINE)
        narrator.done("power back: the device is online again, with the secret it had before")
        await narrator.mdm("device", "config", "set", client_id, "interval_s=60")
        await narrator.seen(events.CONFIG_REPORTED, version=3, outcome="applied")
        narrator.done("it works: version 3 applied")
    shown = await narrator.mdm("device", "show", client_id)
    narrator.check(
        shown["rotation_state"] == "TIMEOUT" and shown["secret_generation"] == 2,
        "state TIMEOUT, to be retried; generation 2 still in force",
    )


async def perform(
    running: system.System,
    print_line: Callable[[str], None],
    kind: DeviceKind,
    afterwards: Callable[[Esp32], Awaitable[None]] | None = None,
    model: str = MODEL,
) -> None:
    """Run the demo on a running system, then run `afterwards` with the device switched on."""
    profile = running.stack.folder / "profile.toml"
    running.profile.save(profile)
    async with Admin(running.profile) as admin, watching(admin) as witness:
        esp32 = await run_demo(Narrator(profile, print_line, witness), running, kind, model)
        if afterwards is not None:
            async with esp32.powered():
                await afterwards(esp32)


def settings() -> Mapping[str, str]:
    """Return settings of the services with short timeouts for the demo."""
    return {"MDM_ROTATION_DEADLINE_S": str(DEADLINE_S)}


def main() -> int:
    """Start everything, run the demo, and keep running unless --once is given."""
    parser = argparse.ArgumentParser(description="Run a demo on a real stack.")
    parser.add_argument("--once", action="store_true", help="exit after the demo; status 0 if all steps succeeded")
    parser.add_argument("--device", choices=sorted(ALL), default=str(REFERENCE), help="the kind of the device")
    given = parser.parse_args()
    once, kind = given.once, ALL[given.device]
    with stack.scratch("run-") as folder:
        (folder / "logs").mkdir()
        with (folder / "logs" / "device.log").open("a") as device_log:
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(device_log))
            print("Starting PostgreSQL, Mosquitto, Keycloak and the three services")
            with (
                stack.running(folder, progress=_print_line) as servers,
                system.running(servers, **settings()) as running,
            ):
                _print_line("services: registry, rotator and firmware are up")
                if not once:
                    hand_over(running)
                try:
                    asyncio.run(_until_stopped(perform(running, _print_line, kind, None if once else _stay)))
                except (StoryError, NotSeenError) as error:
                    print(f"\nThe demo failed: {error}\n")
                    for server in (*running.services.values(), servers.keycloak, servers.broker):
                        print(f"--- the end of {server.log_file.name}\n{server.log_tail(15)}")
                    if not once:
                        _print_line("The system keeps running; Ctrl-C stops it.")
                        asyncio.run(_until_stopped(_forever()))
                    return 1
                if once:
                    _print_line("\nThe demo is complete.")
    return 0


def _print_line(line: str) -> None:
    print(line, flush=True)


def hand_over(running: system.System) -> None:
    """Print how to use the system, which is up, while the demo runs."""
    folder, profile = running.stack.folder, running.profile
    profile.save(folder / "profile.toml")
    _print_line(
        f"""
The system is up, and stays until Ctrl-C. The web page (the browser will warn about the certificate, which is
signed by {running.stack.endpoints.ca_file}):

  https://{HOST}:{running.http_ports["firmware"]}/
  account {profile.account}, password {profile.password.get_secret_value()}

In another terminal:

  export MDM_PROFILE={folder}/profile.toml
  scripts/uv run mdm device list
  scripts/uv run mdm events
  tail -f {folder}/logs/*.log

Meanwhile, a device shows what the system does:"""
    )


async def _until_stopped(work: Coroutine[None, None, None]) -> None:
    """Do the work until it is done, or until Ctrl-C or SIGTERM."""
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


async def _stay(esp32: Esp32) -> None:
    _print_line(
        f"\nThe demo is complete. The system and {esp32.package.client_id} keep running; Ctrl-C stops everything."
    )
    await _forever()


async def _forever() -> None:
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
