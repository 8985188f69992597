"""The memory of a device between two boots: its parts, and the routes of messages to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device import image_builder, reading
from device import package as packages
from device.commands import CommandRunner, CommandStore
from device.config import ConfigStore, Configuration
from device.coredump import CoreDump
from device.credentials import Credentials
from device.fetcher import Failure, Fetcher, ImagePiece
from device.firmware import FirmwareUpdater
from device.flash import Flash
from device.key import DeviceKeyPair, load_or_make
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
        self.configuration = Configuration(ConfigStore(state, fault=fault), uplink, options)
        commands = CommandStore(state, kept=options.commands_kept, fault=fault)
        self.commands = CommandRunner(commands, uplink, self.clock)
        self._flash = Flash(
            state / "flash",
            first_image=lambda: _first_image(package, options) if image is None else image,
            boots_max=options.boots_max,
            fault=fault,
        )
        self.fetcher = Fetcher(package, options, self.credentials.secret)
        self.firmware = FirmwareUpdater(
            self._flash, uplink, options, self.fetcher if options.prefer_http else None
        )
        self._reading = reading.source(uplink.hooks.clock)
        self.core_dump = CoreDump(self._flash, uplink, options)
        self._routes = {
            route.topic.of(client_id=package.client_id): route
            for route in (
                _Route(topics.CONFIG, self._on_config),
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
        )

    def on_connected(self, slot: Slot) -> None:
        """Send all that is due on a new connection, which was logged in with `slot`."""
        self._told = None
        self.credentials.on_login(slot)
        if self.key is not None:
            self.key.on_connected()
        self.publish_status()
        self.configuration.on_connected()
        self.firmware.on_connected()
        self.commands.on_connected()
        self.core_dump.on_connected()
        if self._options.reading_s is not None:
            self._uplink.repeat("reading", self._reading, every_s=self._options.reading_s)

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
        answered = self.configuration.on_config(config)
        self.clock.adjust(config.time, is_answer=answered)
        self.credentials.on_confirmed(config.secret_generation)
        if answered:
            self.firmware.on_healthy()

    def _on_firmware_offer(self, offer: messages.FirmwareOffer) -> None:
        self.clock.adjust(offer.time, is_answer=self.firmware.is_answer(offer))
        self.firmware.on_offer(offer)

    def _on_chunk(self, names: dict[str, str], data: bytes) -> None:
        offset = names["offset"]
        if offset.isascii() and offset.isdigit():
            self.firmware.on_chunk(names["sha256"], int(offset), data)


def _first_image(package: Package, options: Options) -> bytes:
    project = packages.model_of(package)[:_PROJECT_MAX] or "reference"
    return image_builder.build(version=_FIRST_VERSION, project=project, chip=options.chip)
