"""A reader of new NVS partition images, made from ESP-IDF's description of the format alone.

https://docs.espressif.com/projects/esp-idf/en/stable/esp32/api-reference/storage/nvs_flash.html#internals
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

PAGE: Final = 4096
ENTRY: Final = 32
ENTRIES: Final = 126
BLANK: Final = b"\xff"
UNINITIALIZED, ACTIVE, FULL = 0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFC
EMPTY, WRITTEN = 0b11, 0b10
VERSION_2: Final = 0xFE
INTEGERS: Final = {0x01: "<B", 0x02: "<H", 0x04: "<I", 0x08: "<Q", 0x11: "<b", 0x12: "<h", 0x14: "<i", 0x18: "<q"}
STRING, BLOB_DATA, BLOB_INDEX = 0x21, 0x42, 0x48

Value = int | str | bytes


class BrokenImageError(Exception):
    """The image is not one that NVS would take as new and whole."""


class Item(NamedTuple):
    """A value; of a blob, the part of this number, or with `parts` its whole size."""

    namespace: int
    key: str
    value: Value
    part: int | None = None
    parts: int = 0


def read(image: bytes) -> dict[str, dict[str, Value]]:
    """Return {namespace: {key: value}}, or raise BrokenImageError."""
    require(len(image) % PAGE == 0, "size")
    items: list[Item] = []
    states: list[int] = []
    for number in range(len(image) // PAGE):
        page = image[number * PAGE : (number + 1) * PAGE]
        states.append(struct.unpack_from("<I", page)[0])
        if states[-1] == UNINITIALIZED:
            require(page == BLANK * PAGE, f"page {number} is not blank")
            continue
        items += items_of(page, number)
    used = [state for state in states if state != UNINITIALIZED]
    require(states[: len(used)] == [FULL] * (len(used) - 1) + [ACTIVE], "states of pages")
    require(len(used) < len(states), "no page is kept free")
    return by_namespace(items)


def by_namespace(items: list[Item]) -> dict[str, dict[str, Value]]:
    """Resolve the numbers of namespaces by the items of namespace 0."""
    names = {item.value: item.key for item in items if item.namespace == 0}
    require(len(names) == len(set(names.values())), "a namespace is there twice")
    found: dict[str, dict[str, Value]] = {str(name): {} for name in names.values()}
    for item in (*blobs(items), *(it for it in items if it.part is None and not it.parts)):
        if item.namespace:
            require(item.namespace in names, f"{item.key} is in no namespace")
            inside = found[names[item.namespace]]
            require(item.key not in inside, f"{item.key} is there twice")
            inside[item.key] = item.value
    return found


def blobs(items: list[Item]) -> Iterator[Item]:
    """Put blobs together; each part belongs to the index of its key."""
    indices = [it for it in items if it.parts]
    for index in indices:
        mine = [it for it in items if it.part is not None and (it.namespace, it.key) == index[:2]]
        require([it.part for it in mine] == list(range(index.parts)), f"parts of {index.key}")
        whole = b"".join(it.value for it in mine if isinstance(it.value, bytes))
        require(len(whole) == index.value, f"size of {index.key}")
        yield Item(index.namespace, index.key, whole)
    known = {it[:2] for it in indices}
    require(all(it[:2] in known for it in items if it.part is not None), "a part is of no blob")


def items_of(page: bytes, number: int) -> Iterator[Item]:
    """Yield the items of one page: header 32 bytes, bitmap 32 bytes, 126 entries of 32 bytes."""
    sequence, version, unused, crc = struct.unpack_from("<IB19sI", page, 4)
    require(crc32(page[4:28]) == crc, f"CRC of page {number}")
    require((sequence, version, unused) == (number, VERSION_2, BLANK * 19), f"header of page {number}")
    bitmap = int.from_bytes(page[32:64], "little")
    states = [bitmap >> 2 * index & 0b11 for index in range(128)]
    written = states.count(WRITTEN)
    require(states == [WRITTEN] * written + [EMPTY] * (128 - written), f"bitmap of page {number}")
    require(written <= ENTRIES, f"bitmap of page {number}")
    entries = [page[64 + index * ENTRY :][:ENTRY] for index in range(ENTRIES)]
    require(set(entries[written:]) <= {BLANK * ENTRY}, f"an empty entry of page {number} is not blank")
    index = 0
    while index < written:
        span = entries[index][2]
        require(1 <= span <= written - index, f"span of entry {index}")
        yield item_of(entries[index], b"".join(entries[index + 1 : index + span]))
        index += span


def item_of(head: bytes, rest: bytes) -> Item:
    """Return the item of an entry and the entries that it spans after it."""
    namespace, kind, _, chunk, crc, key, data = struct.unpack("<BBBBI16s8s", head)
    require(crc32(head[:4] + head[8:]) == crc, "CRC of an entry")
    require((chunk == 0xFF) == (kind != BLOB_DATA), "chunk index")
    name, _, padding = key.partition(b"\0")
    require(1 <= len(name) <= 15, "length of a key")
    require(not padding.strip(b"\0"), "padding of a key")
    if kind in INTEGERS:
        require(not rest, "span of an integer")
        layout = INTEGERS[kind]
        require(data[struct.calcsize(layout) :].strip(BLANK) == b"", "padding of an integer")
        return Item(namespace, name.decode(), struct.unpack_from(layout, data)[0])
    if kind == BLOB_INDEX:
        whole, parts, first, unused = struct.unpack("<IBBH", data)
        require(not rest and parts > 0 and (first, unused) == (0, 0xFFFF), "index of a blob")
        return Item(namespace, name.decode(), whole, parts=parts)
    require(kind in {STRING, BLOB_DATA}, f"type {kind:#x} is not known")
    size, reserved, data_crc = struct.unpack("<HHI", data)
    require(reserved == 0xFFFF, "reserved bytes of a string")
    require((size + ENTRY - 1) // ENTRY * ENTRY == len(rest), "span of a string")
    text = rest[:size]
    require(crc32(text) == data_crc, "CRC of a string")
    if kind == BLOB_DATA:
        return Item(namespace, name.decode(), text, part=chunk)
    require(text.find(b"\0") == size - 1, "a string ends with its only NUL")
    return Item(namespace, name.decode(), text[:-1].decode())


def crc32(data: bytes) -> int:
    """Return the CRC32 as NVS has it: begun with all ones, which `zlib` inverts first."""
    return zlib.crc32(data, 0xFFFF_FFFF)


def require(truth: bool, rule: str) -> None:
    if not truth:
        raise BrokenImageError(rule)
