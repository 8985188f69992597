"""Runs one reference device until SIGTERM or SIGINT: `python -m device --package FILE`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog
from pydantic import ValidationError

from device import image as images
from device import package as packages
from device.agent import Agent
from device.claim import Machine
from device.options import Hooks, Options
from shared.errors import FleetError, InvalidInputError
from shared.esp32.chips import CHIP_IDS
from shared.protocol.messages import MAX_WAKE_INTERVAL_S, Vitals
from shared.protocol.topics import explain

_DEFAULTS = Options()
_POSITIVE = (
    "slot_size_bytes",
    "retry_s",
    "claim_retry_s",
    "verify_timeout_s",
    "backoff_max_s",
    "reading_s",
    "vitals_s",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m device", description="Run the reference ESP32 device.")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--package", type=Path, help="provisioning package, JSON")
    start.add_argument("--claim", type=Path, help="claim package, JSON: request an identity first; needs --uid")
    parser.add_argument("--uid", help="MAC address or chip id, 12 or 16 hexadecimal digits in lower case")
    parser.add_argument("--state", type=Path, help="folder of flash and credentials [state/CLIENT_ID, state/UID]")
    parser.add_argument("--protocol", choices=("3.1.1", "5"), default=_DEFAULTS.protocol, help="MQTT version")
    parser.add_argument(
        "--mqtt-auth",
        choices=("password", "token", "either"),
        help="how to log in to the broker; either: by token, else by secret [as in the package]",
    )
    parser.add_argument("--image", type=Path, help="first image for an empty flash")
    parser.add_argument("--chip", choices=CHIP_IDS, default=_DEFAULTS.chip, help="of the built-in first image")
    parser.add_argument("--slot-size-bytes", type=int, default=_DEFAULTS.slot_size_bytes)
    parser.add_argument(
        "--keyless", action="store_true", help="behave like an old device, without a key of its own"
    )
    parser.add_argument(
        "--prefer-http", action="store_true", help="fetch firmware over HTTP(S) where the offer has a URL"
    )
    parser.add_argument("--retry-s", type=float, default=_DEFAULTS.retry_s)
    parser.add_argument("--claim-retry-s", type=float, default=_DEFAULTS.claim_retry_s)
    parser.add_argument("--verify-timeout-s", type=float, default=_DEFAULTS.verify_timeout_s)
    parser.add_argument("--backoff-max-s", type=float, default=_DEFAULTS.backoff_max_s)
    parser.add_argument(
        "--wake-interval-s", type=int, help="sleep, and connect again after this time [stay connected]"
    )
    parser.add_argument(
        "--network",
        action="append",
        metavar="SSID[=PASSWORD]",
        help="simulate that only these Wi-Fi networks are in range, for profiles that have `wifi`; repeatable",
    )
    parser.add_argument(
        "--reading-s",
        type=float,
        metavar="S",
        help="publish the uptime on app/CLIENT_ID/up/uptime every S seconds",
    )
    parser.add_argument("--vitals-s", type=float, metavar="S", default=300.0, help="report vitals every S seconds")
    parser.add_argument(
        "--vital",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="simulate a vital besides uptime_s, such as heap_free_bytes=142000; repeatable",
    )
    parser.add_argument("--panic-bytes", type=int, default=0, help="simulate a core dump of this size in flash")
    parser.add_argument("--json", action="store_true", help="log as JSON")
    return parser


async def _agent(given: argparse.Namespace) -> Agent:
    """Return the device, which may have to request its identity first."""
    for name in _POSITIVE:
        if (value := getattr(given, name)) is not None and value <= 0:
            raise InvalidInputError(f"--{name.replace('_', '-')}: must be greater than 0")
    if given.wake_interval_s is not None and not 1 <= given.wake_interval_s <= MAX_WAKE_INTERVAL_S:
        raise InvalidInputError(f"--wake-interval-s: must be 1 to {MAX_WAKE_INTERVAL_S}")
    if (given.claim is None) != (given.uid is None):
        raise InvalidInputError("--uid: must be given together with --claim")
    package = packages.load(given.package) if given.claim is None else None
    image = None
    if given.image is not None:
        image = given.image.read_bytes()
        images.read(image)
        if len(image) > given.slot_size_bytes:
            raise InvalidInputError(f"--image: must fit the slot of {given.slot_size_bytes} bytes")
    options = Options(
        protocol=given.protocol,
        mqtt_auth=given.mqtt_auth,
        keyless=given.keyless,
        prefer_http=given.prefer_http,
        chip=given.chip,
        slot_size_bytes=given.slot_size_bytes,
        retry_s=given.retry_s,
        claim_retry_s=given.claim_retry_s,
        verify_timeout_s=given.verify_timeout_s,
        backoff_max_s=given.backoff_max_s,
        reading_s=given.reading_s,
        vitals_s=given.vitals_s,
        panic_bytes=given.panic_bytes,
        wake_interval_s=given.wake_interval_s,
    )
    state = given.state or Path("state") / (package.client_id if package else given.uid)
    if package is None:
        package = await Machine(packages.load_claim(given.claim), given.uid, state, options).package()
    return Agent(package, state, options=options, hooks=_hooks(given.network, given.vital), image=image)


def _hooks(networks: list[str] | None, texts: Sequence[str] = ()) -> Hooks:
    """Return the hooks of a device with these vitals, and with only these networks in range; None: with any."""
    vitals = _vitals(texts)
    hooks = Hooks(measure=lambda: vitals)
    if networks is None:
        return hooks
    passwords = {ssid: password for ssid, _, password in (it.partition("=") for it in networks)}
    return replace(hooks, joins=lambda network: passwords.get(network.ssid) == network.password)


def _vitals(texts: Sequence[str]) -> dict[str, float]:
    try:
        return Vitals.model_validate(
            {name: number for name, _, number in (it.partition("=") for it in texts)}
        ).root
    except ValidationError as error:
        raise InvalidInputError(f"--vital: {explain(error)}") from None


async def _run(given: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    making = asyncio.ensure_future(_agent(given))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, making.cancel)
    try:
        agent = await making
    except asyncio.CancelledError:
        return 0
    except (FleetError, OSError) as error:
        sys.stderr.write(f"device: {error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    try:
        await agent.run()
    except (FleetError, OSError) as error:
        sys.stderr.write(f"device: {error}\n")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the device; return 0 after a signal, 2 for a bad argument or package, 1 for unusable state."""
    given = _parser().parse_args(arguments)
    renderer = structlog.processors.JSONRenderer() if given.json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    return asyncio.run(_run(given))


if __name__ == "__main__":
    sys.exit(main())
