"""Records that survive a power cut: each write replaces a whole record, and is durable when the call returns.

A fault hook is called with `NAME:before`, `NAME:written` (files only: the new file is whole but not in place) and
`NAME:after` of each write; a test ends the device there.
"""

import json
import os

_NOT_FOUND = -0x1102  # ESP_ERR_NVS_NOT_FOUND
_TOO_SHORT = -0x110C  # ESP_ERR_NVS_INVALID_LENGTH
_FOLDER = "/mdm-records"  # no name of a module: `import mdm` would find the folder first
_NVS_SIZES = (1024, 4096, 16384)
_ENOENT = 2
_EEXIST = 17


class StorageError(Exception):
    """A record is damaged, or there is no place that keeps records through a power cut."""


def no_fault(_point):
    """Do nothing."""


def _parsed(name, data):
    try:
        return json.loads(data)
    except ValueError:
        raise StorageError(f"{name}: is damaged: it must be JSON")


def dumps(value):
    """Return a value as JSON without white space."""
    return json.dumps(value, separators=(",", ":"))


class Files:
    """One file a record in a folder of littlefs, or of a file system of Linux."""

    def __init__(self, folder=_FOLDER, fault=no_fault):
        """Make the folder; raise StorageError on FAT, which loses files when power fails in a write."""
        self._folder = folder
        self._fault = fault
        if is_fat(folder):
            raise StorageError(f"{folder}: is on FAT, which loses records at power cuts: use littlefs or Nvs")
        try:
            os.mkdir(folder)
        except OSError as error:
            if error.args[0] != _EEXIST:
                raise

    def read(self, name):
        """Return a record, or None; raise StorageError if it is damaged."""
        try:
            with open(self._path(name)) as file:
                return _parsed(self._path(name), file.read())
        except OSError as error:
            if error.args[0] == _ENOENT:
                return None
            raise

    def write(self, name, value):
        """Replace a record; after an OSError the old one is still in place."""
        path = self._path(name)
        self._fault(name + ":before")
        try:
            with open(path + ".new", "w") as file:
                file.write(dumps(value))
                file.flush()  # this also waits for the flash, or the disk
        except OSError:
            self._remove(path + ".new")  # what does not fit must not take the room of the next record
            raise
        self._fault(name + ":written")
        os.rename(path + ".new", path)
        self._sync_folder()
        self._fault(name + ":after")

    def _remove(self, path):
        try:
            os.remove(path)
        except OSError:
            pass

    def _path(self, name):
        return f"{self._folder}/{name}.json"

    def _sync_folder(self):
        """Let a rename reach the disk: littlefs does by itself, and does not open folders."""
        try:
            with open(self._folder, "rb") as folder:
                folder.flush()
        except OSError:
            pass


class Nvs:
    """One blob a record in ESP-IDF's NVS, in the namespace `mdm`, which MicroPython's firmware has room for.

    Each is under two names in turns, and a number names the one in force: a power cut while a blob is replaced may
    leave neither the old nor the new one (seen with ESP-IDF 5.5.5), while a number is replaced whole.
    """

    def __init__(self, fault=no_fault):
        from esp32 import NVS

        self._nvs = NVS("mdm")
        self._fault = fault

    def read(self, name):
        """Return a record, or None; raise StorageError if it is damaged."""
        turn = self._turn(name)
        if turn is None:
            return None
        for size_bytes in _NVS_SIZES:
            data = bytearray(size_bytes)
            try:
                length = self._nvs.get_blob(f"{name}.{turn}", data)
                return _parsed(name, bytes(data[:length]))
            except OSError as error:
                if error.args[0] != _TOO_SHORT:
                    raise
        raise StorageError(f"{name}: is damaged: it must have at most {_NVS_SIZES[-1]} bytes")

    def write(self, name, value):
        """Replace a record; after an OSError the old one is still in place."""
        data = dumps(value).encode()
        if len(data) > _NVS_SIZES[-1]:
            raise OSError(f"no room for {len(data)} bytes")
        turn = self._turn(name)
        following = 1 if turn == 0 else 0
        self._fault(name + ":before")
        self._nvs.set_blob(f"{name}.{following}", data)
        self._nvs.commit()
        self._fault(name + ":written")
        self._nvs.set_i32(name + ".t", following)
        self._nvs.commit()
        self._fault(name + ":after")
        try:
            self._nvs.erase_key(f"{name}.{1 - following}")
            self._nvs.commit()
        except OSError:
            pass  # it makes room only; what is left is replaced the next time

    def _turn(self, name):
        """Return which of the two blobs of a record is in force, or None: there is no record yet."""
        try:
            return self._nvs.get_i32(name + ".t")
        except OSError as error:
            if error.args[0] != _NOT_FOUND:
                raise
            return None


def is_fat(path):
    """Return whether a path, absolute or in the present folder, is on FAT."""
    import vfs

    path = path if path.startswith("/") else os.getcwd() + "/" + path
    best, kind = "", ""
    for mounted, point in vfs.mount():
        inside = (path + "/").startswith(point if point.endswith("/") else point + "/")
        if inside and len(point) > len(best):
            best, kind = point, type(mounted).__name__
    return kind == "VfsFat"


def default():
    """Return the place for records on a board: littlefs, or NVS if the file system is FAT."""
    return Nvs() if is_fat(_FOLDER) else Files()
