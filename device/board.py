"""The memory of a device between two boots: its parts, and the routes of messages to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device import connection, image_builder, reading, vitals
from device import package as packages
from device.commands import CommandRunner, CommandStore
from device.config import ConfigStore, Configuration
from device.connection_store import ConnectionStore
from device.coredump import CoreDump
from device.credentials import Credentials
from device.fetcher import Failure, Fetcher, ImagePiece
from device.firmware import FirmwareUpdater
from device.flash import Flash
from device.key import DeviceKeyPair, load_or_make
from device.mover import OFFER, Mover, OfferToRead
from device.options import Options
from device.rotation import Slot
from device.server_clock import ServerClock
from device.slots import SlotStore
from device.uplink import Uplink
from shared.errors import MessageRefusedError
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.topics import Topic

_PROJECT_MAX = 31
_FIRST_VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class _Route:
    topic: Topic[Any]
    handle: Callable[[Any], object]


class Board:
    """A booted device: all parts are recreated from the files in `state`.

    Raises StateUnreadableError and ImageInvalidError.
    """

    def __init__(
        self,
        package: Package,
        state: Path,
        uplink: Uplink,
        options: Options,
        *,
        image: bytes | None,
        reset_reason: str,
    ) -> None:
        self._uplink = uplink
        self._options = options
        self._reset_reason = reset_reason
        self._told: messages.Status | None = None
        fault = uplink.hooks.fault
        provisioned = packages.provisioned_slot(package)
        store = SlotStore(state, provisioned, fault=fault)
        pair = None if options.keyless else load_or_make(state, fault=fault)
        self.clock = ServerClock(uplink.hooks.clock)
        self.credentials = Credentials(store, provisioned, uplink, self.clock, options, pair=pair)
        self.key = None if pair is None else DeviceKeyPair(package, state, pair, uplink, self.credentials.secret)
        profiles = ConnectionStore(state, connection.of_package(package), fault=fault)
        self.mover = Mover(profiles, package, uplink, options, pair=pair)
        self.configuration = Configuration(ConfigStore(state, fault=fault), uplink, options, self.mover.on_request)
        commands = CommandStore(state, kept=options.commands_kept, fault=fault)
        self.commands = CommandRunner(commands, uplink, self.clock)
        self._flash = Flash(
            state / "flash",
            first_image=lambda: _first_image(package, options) if image is None else image,
            boots_max=options.boots_max,
            fault=fault,
        )
        self.fetcher = Fetcher(lambda: self.mover.package, options, self.credentials.secret)
        self.firmware = FirmwareUpdater(
            self._flash, uplink, options, self.fetcher if options.prefer_http else None
        )
        self._reading = reading.source(uplink.hooks.clock)
        self._vitals = vitals.source(uplink.hooks)
        self.core_dump = CoreDump(self._flash, uplink, options)
        self._routes = {
            route.topic.of(client_id=package.client_id): route
            for route in (
                _Route(topics.CONFIG, self._on_config),
                _Route(OFFER, self._on_connection_offer),
                _Route(topics.ROTATION_OFFER, self.credentials.on_offer),
                _Route(topics.ROTATION_SECRET, self.credentials.on_secret),
                _Route(topics.ROTATION_SWITCH, self.credentials.on_switch),
                _Route(topics.ROTATION_DONE, self.credentials.on_done),
                _Route(topics.ROTATION_CANCELLED, self.credentials.on_cancelled),
                *([_Route(topics.KEY_KNOWN, self.key.on_known)] if self.key is not None else []),
                _Route(topics.FIRMWARE_OFFER, self._on_firmware_offer),
                _Route(topics.FIRMWARE_CANCELLED, self.firmware.on_cancelled),
                _Route(topics.COMMAND, self.commands.on_command),
                _Route(topics.COREDUMP_WANTED, self.core_dump.on_wanted),
                _Route(topics.COREDUMP_STORED, self.core_dump.on_stored),
                _Route(topics.COREDUMP_REFUSED, self.core_dump.on_refused),
            )
        }

    def status(self) -> messages.Status:
        """Return the device's current status."""
        running = self._flash.running
        return messages.Status(
            online=True,
            firmware_version=running.version,
            firmware_sha256=self._flash.running_sha256,
            chip=running.chip,
            project=running.project,
            slot_size_bytes=self._options.slot_size_bytes,
            config_version=self.configuration.version,
            secret_generation=self.credentials.login,
            boot=self._uplink.journal.boot,
            reset_reason=self._reset_reason,
            wake_interval_s=self._options.wake_interval_s,
        )

    def goodbye(self, *, asleep: bool) -> messages.Status:
        """Return the status with which the device ends its connection."""
        generation = self.credentials.login
        return messages.Status(online=False, secret_generation=generation, asleep=True if asleep else None)

    def sleeps_at(self, active_at: float) -> float | None:
        """Return when the device is to sleep if no message comes after `active_at`, by the hooks' clock."""
        if self._options.wake_interval_s is None:
            return None
        parts = (self.credentials, self.configuration, self.firmware, self.core_dump, self.key, self.mover)
        is_busy = not self._uplink.is_empty or any(part is not None and part.is_busy for part in parts)
        return active_at + (self._options.awake_max_s if is_busy else self._options.quiet_s)

    def on_connected(self, slot: Slot) -> None:
        """Send what is due on a new connection, which was logged in with `slot`.

        On trial it may lead to a broker that nobody listens to, so what is sent once is sent after the proof.
        """
        self._told = None
        self.mover.on_connected()
        self.credentials.on_login(slot)
        if self.key is not None:
            self.key.on_connected()
        self.publish_status()
        self.configuration.on_connected()
        if not self.mover.on_trial:
            self._on_trusted()

    def _on_trusted(self) -> None:
        self.firmware.on_connected()
        self.commands.on_connected()
        self.core_dump.on_connected()
        if self._options.reading_s is not None:
            self._uplink.repeat("reading", self._reading, every_s=self._options.reading_s)
        if self._options.vitals_s is not None:
            self._uplink.repeat("vitals", self._vitals, every_s=self._options.vitals_s)

    def deadlines(self) -> list[tuple[float, Callable[[], None]]]:
        """Return the times of what ends by itself, on the hooks' clock in seconds, each with its handler."""
        times = (
            (self.firmware.verify_by, self.firmware.on_verify_timeout),
            (self.configuration.trial_by, self.configuration.on_trial_timeout),
            (self.mover.due_at, self.mover.on_time),
        )
        return [(at, handle) for at, handle in times if at is not None]

    def publish_status(self) -> None:
        """Publish the status if it differs from the one published last on this connection."""
        status = self.status()
        if status != self._told:
            self._told = status
            self._uplink.send(topics.STATUS, status)

    def on_message(self, topic: str, payload: bytes) -> None:
        """Pass a message to its part; log and drop one that violates the protocol."""
        if not self._uplink.hooks.accepts(topic):
            self._uplink.record("message.unheard", topic=topic)
            return
        try:
            chunk = topics.FIRMWARE_CHUNK_DATA.match(topic)
            if chunk is not None:
                self._on_chunk(chunk, topics.FIRMWARE_CHUNK_DATA.decode(payload))
            elif topic in self._routes:
                route = self._routes[topic]
                route.handle(route.topic.decode(payload))
            else:
                self._uplink.record("message.unknown", topic=topic)
        except MessageRefusedError as error:
            self._uplink.record("message.refused", topic=topic, error=error.message)
        self.publish_status()

    def on_fetched(self, fetched: ImagePiece | Failure) -> None:
        """Handle a chunk received over HTTP, or a failure."""
        if isinstance(fetched, ImagePiece):
            self.firmware.on_fetched(fetched.sha256, fetched.offset, fetched.data)
        else:
            self.firmware.on_fetch_failed(fetched.sha256, fetched.reason)

    def _on_config(self, config: messages.Config) -> None:
        answered = self.configuration.is_answer(config)
        if self.mover.on_trial and not answered:
            return  # the answer has it too, and proves the connection first
        moved = answered and self.mover.on_answered()
        self.configuration.on_config(config)
        self.clock.adjust(config.time, is_answer=answered)
        self.credentials.on_confirmed(config.secret_generation)
        if answered:
            self.firmware.on_healthy()
        if moved:
            self.configuration.request()
            self._on_trusted()

    def _on_connection_offer(self, offer: OfferToRead) -> None:
        busy = self._flash.pending_verify or self.configuration.trial_by is not None
        if self.mover.on_offer(offer, busy=busy):
            self.configuration.request()

    def _on_firmware_offer(self, offer: messages.FirmwareOffer) -> None:
        self.clock.adjust(offer.time, is_answer=self.firmware.is_answer(offer))
        if not self.mover.on_trial:  # else the check that follows the trial is answered
            self.firmware.on_offer(offer)

    def _on_chunk(self, names: dict[str, str], data: bytes) -> None:
        offset = names["offset"]
        if offset.isascii() and offset.isdigit():
            self.firmware.on_chunk(names["sha256"], int(offset), data)


def _first_image(package: Package, options: Options) -> bytes:
    project = packages.model_of(package)[:_PROJECT_MAX] or "reference"
    return image_builder.build(version=_FIRST_VERSION, project=project, chip=options.chip)
