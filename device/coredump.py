"""A core dump in flash: offered on each connection, sent in the requested chunks, erased when it is stored.

Its format on this device: SHA-256 of the ELF that crashed, 32 bytes; then the version, 32 bytes; then the memory.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from device import durable
from device.flash import Flash
from device.options import Options
from device.uplink import Outgoing, Uplink
from shared.protocol import messages, topics

FILE_NAME: Final = "coredump.bin"
_KEY: Final = "coredump"
_ELF: Final = slice(0, 32)
_VERSION: Final = slice(32, 64)
_HEADER_BYTES: Final = 64


class CoreDump:
    """The core dump in `coredump.bin`, if there is one.

    Fault points: `coredump.write` with `:before`, `:written` and `:after`, `coredump.erase:before`, `:after`.
    """

    def __init__(self, flash: Flash, uplink: Uplink, options: Options) -> None:
        """Find the dump; the option `panic_bytes` creates one."""
        self._path = flash.folder / FILE_NAME
        self._uplink = uplink
        self._retry_s = options.retry_s
        self._answered: tuple[list[int], float] = [], 0.0
        if options.panic_bytes > 0 and not self._path.exists():
            running = flash.running
            header = bytes.fromhex(running.elf_sha256) + running.version.encode().ljust(32, b"\0")
            memory = os.urandom(max(0, options.panic_bytes - _HEADER_BYTES))
            durable.write(self._path, header + memory, name="coredump.write", fault=uplink.hooks.fault)
        self._data = self._path.read_bytes() if self._path.exists() else b""
        self._sha256 = hashlib.sha256(self._data).hexdigest()

    @property
    def is_busy(self) -> bool:
        """Whether there is a dump to send."""
        return bool(self._data)

    def on_connected(self) -> None:
        """Offer the dump until it is stored or refused."""
        self._answered = [], 0.0
        if self._data:
            self._uplink.record("coredump.offered", sha256=self._sha256, size_bytes=len(self._data))
            self._offer_again()

    def on_wanted(self, message: messages.CoreDumpWanted) -> None:
        """Send the missing chunks, and offer the dump again.

        A repeated answer is to a repeated offer: the chunks sent last are still on their way.
        """
        now = self._uplink.hooks.clock()
        missing, at = self._answered
        if message.sha256 != self._sha256 or (message.missing == missing and now < at + self._retry_s):
            return
        self._answered = message.missing, now
        for offset in message.missing:
            piece = self._data[offset : offset + message.chunk_size_bytes]
            chunk = messages.CoreDumpChunk(sha256=self._sha256, offset=offset, data=piece)
            self._uplink.send(topics.COREDUMP_CHUNK, chunk)
        self._offer_again()

    def on_stored(self, message: messages.CoreDumpStored) -> None:
        """Erase the dump: the server has stored it."""
        if self._data and message.sha256 == self._sha256:
            self._uplink.hooks.fault("coredump.erase:before")
            self._path.unlink()
            durable.sync_folder(self._path.parent)
            self._uplink.hooks.fault("coredump.erase:after")
            self._uplink.record("coredump.stored", sha256=self._sha256)
            self._give_up()

    def on_refused(self, message: messages.CoreDumpRefused) -> None:
        """Leave the dump in flash, and do not offer it before the next start."""
        if self._data and message.sha256 == self._sha256:
            self._uplink.record("coredump.refused", sha256=self._sha256, reason=message.reason)
            self._give_up()

    def _give_up(self) -> None:
        self._data = b""
        self._uplink.stop(_KEY)

    def _offer_again(self) -> None:
        self._uplink.repeat(_KEY, self._offer, every_s=self._retry_s)

    def _offer(self) -> Outgoing:
        version = self._data[_VERSION].rstrip(b"\0").decode()
        offer = messages.CoreDumpOffer(
            sha256=self._sha256,
            size_bytes=len(self._data),
            elf_sha256=self._data[_ELF].hex(),
            reason="panic",
            firmware_version=version,
        )
        return topics.COREDUMP_OFFER, offer
