"""Stands for MicroPython's `esp32` on the unix port: NVS, and two slots with a bootloader that goes back.

The folder FLASH of the environment is the flash. Without `ota_0.bin` in it there is one slot only, as on most
boards. A start of the program is a start of the board.
"""

import json
import os

FLASH = os.getenv("FLASH")
SIZE_BYTES = 256 * 1024
_BLOCK = 4096


def _read(name):
    try:
        with open(f"{FLASH}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return None


def _write(name, data):
    with open(f"{FLASH}/{name}.new", "wb") as file:
        file.write(data)
    os.rename(f"{FLASH}/{name}.new", f"{FLASH}/{name}")


def _boot():
    """Do what ESP-IDF's bootloader does with CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE; return the state."""
    state = json.loads(_read("otadata.json") or '{"boot": 0, "states": ["undefined", "undefined"]}')
    boot, states = state["boot"], state["states"]
    if states[boot] == "new":
        states[boot] = "pending"
    elif states[boot] == "pending":
        states[boot] = "aborted"
        state["boot"] = boot = 1 - boot
        if states[boot] not in ("valid", "undefined"):
            raise RuntimeError("no bootable app partitions")
    _write("otadata.json", json.dumps(state).encode())
    return state


class Partition:
    RUNNING = 1
    BOOT = 0
    _state = _boot() if _read("ota_0.bin") else None
    _running = _state["boot"] if _state else 0

    def __init__(self, which):
        self._slot = which if isinstance(which, str) else f"ota_{self._running}"

    def info(self):
        return (0, 16, 65536, SIZE_BYTES, self._slot, False)

    def get_next_update(self):
        if self._state is None:
            raise OSError(2)
        return Partition(f"ota_{1 - int(self._slot[-1])}")

    def readblocks(self, block, data, offset=0):
        stored = (_read(self._slot + ".bin") or b"")[block * _BLOCK + offset :][: len(data)]
        data[:] = stored + b"\xff" * (len(data) - len(stored))

    def writeblocks(self, block, data):
        if len(data) != _BLOCK or (block + 1) * _BLOCK > SIZE_BYTES or self._slot == f"ota_{self._running}":
            raise OSError(-0x102)
        name = f"{FLASH}/{self._slot}.bin"
        with open(name, "r+b" if _read(self._slot + ".bin") is not None else "w+b") as file:
            file.seek(block * _BLOCK)
            file.write(data)

    def set_boot(self):
        slot = int(self._slot[-1])
        self._state["boot"] = slot
        self._state["states"][slot] = "new"
        _write("otadata.json", json.dumps(self._state).encode())
        print("selected", self._slot)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        cls._state["states"][cls._running] = "valid"
        _write("otadata.json", json.dumps(cls._state).encode())


class NVS:
    cut = False  # the power is cut in a blob that replaces one: as in ESP-IDF 5.5.5, neither is left

    def __init__(self, namespace):
        self._name = f"nvs.{namespace}."
        self._pending = {}

    def _set(self, key, value):
        if len(key) > 15:
            raise OSError(-0x1109)
        self._pending[key] = value

    def _get(self, key):
        found = _read(self._name + key)
        if found is None:
            raise OSError(-0x1102)
        return found

    def set_blob(self, key, value):
        self._set(key, bytes(value))

    def get_blob(self, key, buffer):
        found = self._get(key)
        if len(found) > len(buffer):
            raise OSError(-0x110C)
        buffer[: len(found)] = found
        return len(found)

    def set_i32(self, key, value):
        self._set(key, value.to_bytes(4, "little"))

    def get_i32(self, key):
        return int.from_bytes(self._get(key), "little")

    def erase_key(self, key):
        self._get(key)
        os.remove(f"{FLASH}/{self._name}{key}")

    def commit(self):
        for key, value in self._pending.items():
            if NVS.cut and len(value) != 4:
                if _read(self._name + key) is not None:
                    os.remove(f"{FLASH}/{self._name}{key}")
                raise OSError(5)
            _write(self._name + key, value)
        self._pending = {}
