"""A board with an ESP32 at a serial port: the bootloader in ROM, the program that esptool loads, and the flash.

Source: Espressif, "Serial Protocol" (https://docs.espressif.com/projects/esptool/en/latest/esp32/advanced-topics/
serial-protocol.html), and esptool's loader.py.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from playwright.async_api import Page

PIPE: Final = Path(__file__).with_name("serial.js")
FLASH_BYTES: Final = 4 * 1024 * 1024
SECTOR_BYTES: Final = 0x1000
ROM_BAUD: Final = 115_200
TABLE_OFFSET: Final = 0x8000
CHIP_DETECT_REGISTER: Final = 0x4000_1000
MAGIC: Final = {"esp32": 0x00F0_1D83, "esp32c3": 0x1B31_506F}
CHIP_IDS: Final = {"esp32c3": 5}
"""Of the chips that name themselves by an id; older ones have a value in a register only."""
SINGLE_APP: Final = (
    ("nvs", 1, 0x02, 0x9000, 0x6000),
    ("phy_init", 1, 0x01, 0xF000, 0x1000),
    ("factory", 0, 0x00, 0x1_0000, 0x10_0000),
)
"""ESP-IDF's partitions_singleapp.csv: name, type, subtype, offset, size."""
TWO_SLOTS: Final = (
    ("nvs", 1, 0x02, 0x9000, 0x4000),
    ("otadata", 1, 0x00, 0xD000, 0x2000),
    ("phy_init", 1, 0x01, 0xF000, 0x1000),
    ("ota_0", 0, 0x10, 0x1_0000, 0x10_0000),
    ("ota_1", 0, 0x11, 0x11_0000, 0x10_0000),
)
WITH_OWN_NVS: Final = (*TWO_SLOTS, ("mdm", 1, 0x02, 0x3B_0000, 0x2_0000))
"""As the libraries want it."""
BOOT: Final = b"rst:0x1 (POWERON_RESET)\r\nI (32) boot: ESP-IDF 2nd stage bootloader\r\n"

SYNC, READ_REG, WRITE_REG, SECURITY_INFO, CHANGE_BAUD = 0x08, 0x0A, 0x09, 0x14, 0x0F
MEM_BEGIN, MEM_DATA, MEM_END = 0x05, 0x07, 0x06
DEFL_BEGIN, DEFL_DATA, DEFL_END = 0x10, 0x11, 0x12
FLASH_MD5, READ_FLASH = 0x13, 0xD2
INVALID_MESSAGE: Final = 5
BAD_CHECKSUM: Final = 7
CHECKSUM_SEED: Final = 0xEF

Row = tuple[str, int, int, int, int]


def table(rows: tuple[Row, ...]) -> bytes:
    """Return a partition table as gen_esp32part.py makes it, with its MD5."""
    entries = b"".join(
        struct.pack("<HBBII16sI", 0x50AA, kind, subtype, offset, size, name.encode(), 0)
        for name, kind, subtype, offset, size in rows
    )
    return entries + struct.pack("<H14s", 0xEBEB, b"\xff" * 14) + hashlib.md5(entries).digest()  # noqa: S324


@dataclass
class Board:
    """A chip that is in reset, starts its application or listens to its bootloader; the pipe speaks base64."""

    chip: str = "esp32"
    rows: tuple[Row, ...] = SINGLE_APP
    is_free: bool = True
    answers: bool = True
    damage_at: int | None = None
    """The address of a cell of flash that does not keep what is written."""
    flash: bytearray = field(default_factory=lambda: bytearray(b"\xff" * FLASH_BYTES))
    writes: list[tuple[int, int]] = field(default_factory=list)
    """Address and size of what was written."""
    bauds: list[int] = field(default_factory=list)
    """The speeds at which commands came, each once."""
    runs: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it was its application that started last."""

    def __post_init__(self) -> None:
        if self.rows:
            rows = table(self.rows)
            self.flash[TABLE_OFFSET : TABLE_OFFSET + len(rows)] = rows
        self._dtr = self._rts = False
        self._listens = self._has_stub = False
        self._baud = self._port_baud = ROM_BAUD
        self._packet: bytearray | None = None
        self._is_escaped = False
        self._registers: dict[int, int] = {}
        self._program = bytearray()
        self._inflating = zlib.decompressobj()
        self._address = self._sequence = 0
        self._reading: Iterator[bytes] = iter(())

    async def plug_into(self, page: Page) -> None:
        """Be what the page finds at its serial port."""
        await page.expose_function("boardOpens", self._open)
        await page.expose_function("boardTakes", self._take)
        await page.expose_function("boardSees", self._see)
        await page.evaluate(PIPE.read_text())

    def _open(self, baud: int) -> bool:
        self._port_baud = baud
        return self.is_free

    def _see(self, dtr: bool | None, rts: bool | None) -> str:
        """RTS holds the chip in reset; DTR is at IO0, which it looks at when the reset ends."""
        self._dtr = self._dtr if dtr is None else dtr
        was_in_reset, self._rts = self._rts, self._rts if rts is None else rts
        if self._rts or not was_in_reset:
            return ""
        self._listens, self._has_stub, self._baud = self._dtr, False, ROM_BAUD
        if self._listens:
            self.runs.clear()
            return ""
        self.runs.set()
        return base64.b64encode(BOOT).decode()

    def _take(self, text: str) -> str:
        if not (self._listens and self.answers and self._baud == self._port_baud):
            return ""
        if self._baud not in self.bauds:
            self.bauds.append(self._baud)
        said = b"".join(
            slip(answer) for packet in self._packets(base64.b64decode(text)) for answer in self._on(packet)
        )
        return base64.b64encode(said).decode()

    def _packets(self, data: bytes) -> Iterator[bytes]:
        """Yield whole packets of SLIP (RFC 1055)."""
        for byte in data:
            if byte == 0xC0:
                if self._packet:
                    yield bytes(self._packet)
                    self._packet = None
                else:
                    self._packet = bytearray()
            elif self._packet is not None:
                if byte == 0xDB:
                    self._is_escaped = True
                    continue
                self._packet.append({0xDC: 0xC0, 0xDD: 0xDB}[byte] if self._is_escaped else byte)
                self._is_escaped = False

    def _on(self, packet: bytes) -> Iterator[bytes]:
        if len(packet) == 4:  # how much of READ_FLASH has come
            yield from (following for following in [next(self._reading, None)] if following is not None)
            return
        direction, command, size, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        assert (direction, size) == (0, len(data))
        if command == SYNC:
            yield from [self._answer(command, value=0x2012_0707)] * (1 if self._has_stub else 8)
            return
        known: dict[int, Callable[[bytes, int], Iterator[bytes]]] = {
            READ_REG: self._read_register,
            WRITE_REG: self._write_register,
            CHANGE_BAUD: self._change_baud,
            MEM_BEGIN: self._begin_program,
            MEM_DATA: self._take_program,
            MEM_END: self._start_program,
        }
        if self.chip in CHIP_IDS:
            known[SECURITY_INFO] = self._tell_security
        if self._has_stub:
            known |= {
                DEFL_BEGIN: self._begin_writing,
                DEFL_DATA: self._write,
                DEFL_END: lambda *_: iter([self._answer(DEFL_END)]),
                FLASH_MD5: self._tell_md5,
                READ_FLASH: self._begin_reading,
            }
        if command in known:
            yield from known[command](data, checksum)
        else:
            yield from [self._answer(0, error=INVALID_MESSAGE)] * 8

    def _answer(self, command: int, body: bytes = b"", *, value: int = 0, error: int = 0) -> bytes:
        status = bytes([bool(error), error]) + (b"" if self._has_stub else bytes(2))
        return struct.pack("<BBHI", 1, command, len(body) + len(status), value) + body + status

    def _read_register(self, data: bytes, _: int) -> Iterator[bytes]:
        [register] = struct.unpack("<I", data)
        magic = MAGIC[self.chip] if register == CHIP_DETECT_REGISTER else 0
        yield self._answer(READ_REG, value=self._registers.get(register, magic))

    def _write_register(self, data: bytes, _: int) -> Iterator[bytes]:
        register, value = struct.unpack_from("<II", data)
        self._registers[register] = value
        yield self._answer(WRITE_REG)

    def _tell_security(self, *_: object) -> Iterator[bytes]:
        yield self._answer(SECURITY_INFO, struct.pack("<IB7sII", 0, 0, bytes(7), CHIP_IDS[self.chip], 0))

    def _change_baud(self, data: bytes, _: int) -> Iterator[bytes]:
        yield self._answer(CHANGE_BAUD)
        [self._baud] = struct.unpack_from("<I", data)

    def _begin_program(self, *_: object) -> Iterator[bytes]:
        self._sequence = 0
        yield self._answer(MEM_BEGIN)

    def _take_program(self, data: bytes, checksum: int) -> Iterator[bytes]:
        block = self._block(data, checksum)
        if block is not None:
            self._program += block
        yield self._answer(MEM_DATA, error=0 if block is not None else BAD_CHECKSUM)

    def _start_program(self, data: bytes, _: int) -> Iterator[bytes]:
        [stays, entry] = struct.unpack("<II", data)
        yield self._answer(MEM_END)
        assert not stays
        assert entry
        assert self._program
        self._has_stub = True
        yield b"OHAI"

    def _begin_writing(self, data: bytes, _: int) -> Iterator[bytes]:
        size, _blocks, _block_size, self._address = struct.unpack("<IIII", data)
        assert self._address % SECTOR_BYTES == 0
        self.writes.append((self._address, size))
        end = self._address + -(-size // SECTOR_BYTES) * SECTOR_BYTES
        self.flash[self._address : end] = b"\xff" * (end - self._address)
        self._inflating, self._sequence = zlib.decompressobj(), 0
        yield self._answer(DEFL_BEGIN)

    def _write(self, data: bytes, checksum: int) -> Iterator[bytes]:
        block = self._block(data, checksum)
        if block is not None:
            plain = self._inflating.decompress(block)
            self.flash[self._address : self._address + len(plain)] = plain
            self._address += len(plain)
            if self.damage_at is not None:
                self.flash[self.damage_at] ^= 1
        yield self._answer(DEFL_DATA, error=0 if block is not None else BAD_CHECKSUM)

    def _tell_md5(self, data: bytes, _: int) -> Iterator[bytes]:
        address, size = struct.unpack_from("<II", data)
        yield self._answer(FLASH_MD5, hashlib.md5(self.flash[address : address + size]).digest())  # noqa: S324

    def _begin_reading(self, data: bytes, _: int) -> Iterator[bytes]:
        address, size, packet_size, _window = struct.unpack("<IIII", data)
        found = bytes(self.flash[address : address + size])
        packets = [found[at : at + packet_size] for at in range(0, size, packet_size)]
        # Each packet after the one before was acknowledged, and then the digest of all.
        self._reading = iter([*packets[1:], hashlib.md5(found).digest()])  # noqa: S324
        yield self._answer(READ_FLASH)
        yield packets[0]

    def _block(self, data: bytes, checksum: int) -> bytes | None:
        """Return a block that comes next and is whole, else None."""
        size, sequence = struct.unpack_from("<II", data)
        block = data[16:]
        found = CHECKSUM_SEED
        for byte in block:
            found ^= byte
        if (size, sequence, checksum) != (len(block), self._sequence, found):
            return None
        self._sequence += 1
        return block


def slip(packet: bytes) -> bytes:
    """Return a packet as it is on the line (RFC 1055)."""
    return b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"
