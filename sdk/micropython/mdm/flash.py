"""The two slots for images of a board, as ESP-IDF and its bootloader have them."""

import hashlib
from binascii import hexlify

BLOCK_BYTES = 4096
_MAGIC = 0xE9


def slots():
    """Return the slots of this board, or None if it has no second one, or is no ESP32."""
    try:
        from esp32 import Partition

        running = Partition(Partition.RUNNING)
        other = running.get_next_update()
    except (ImportError, OSError):
        return None
    return Flash(Partition, running, other) if running.info()[4] != other.info()[4] else None


class Flash:
    """The partition of the running image, and the other one, into which the next image goes."""

    def __init__(self, partition, running, other):
        self._partition = partition
        self._running = running
        self._other = other
        self.label = running.info()[4]
        self.other_label = other.info()[4]
        self.size_bytes = other.info()[3]

    def sha256(self):
        """Return a hash that names the running image: the digest appended to it, else that of its bytes."""
        head = self._bytes(0, 24)
        end = 24
        for _ in range(head[1]):
            end += 8 + int.from_bytes(self._bytes(end + 4, 4), "little")
        end = (end // 16 + 1) * 16  # the checksum is the last of 16 bytes
        return hexlify(self._bytes(end, 32)).decode() if head[23] else self._hash(self._running, end)

    def write(self, offset, data):
        """Write a piece of the next image, at most BLOCK_BYTES, at a multiple of that."""
        if len(data) < BLOCK_BYTES:
            data = bytes(data) + b"\xff" * (BLOCK_BYTES - len(data))
        self._other.writeblocks(offset // BLOCK_BYTES, data)

    def is_whole(self, sha256, size_bytes):
        """Return whether the next image has the bytes that were offered."""
        return self._hash(self._other, size_bytes) == sha256

    def fault(self):
        """Return why the next image cannot be started, or None."""
        head = bytearray(16)
        self._other.readblocks(0, head)
        if head[0] != _MAGIC:
            return "is no image for an ESP32"
        if head[12:14] != self._bytes(12, 2):
            return "is for another chip"
        return None

    def select(self):
        """Start the other image next."""
        self._other.set_boot()

    def keep(self):
        """Tell the bootloader that the running image works, so that it does not go back by itself."""
        try:
            self._partition.mark_app_valid_cancel_rollback()
        except OSError:
            pass  # a bootloader that does not go back needs no word

    def _bytes(self, offset, count):
        data = bytearray(count)
        self._running.readblocks(0, data, offset)
        return data

    @staticmethod
    def _hash(partition, size_bytes):
        hashed, block = hashlib.sha256(), bytearray(BLOCK_BYTES)
        for at in range(0, size_bytes, BLOCK_BYTES):
            partition.readblocks(at // BLOCK_BYTES, block)
            hashed.update(memoryview(block)[: min(BLOCK_BYTES, size_bytes - at)])
        return hexlify(hashed.digest()).decode()
