"""Runs on MicroPython: records on littlefs and FAT, and damaged ones. The second argument is a scratch folder."""

import os
import sys

sys.path[:0] = [sys.argv[1]]

import mdm
import vfs
from esp32 import NVS
from mdm import storage

folder = sys.argv[2]


class Ram:
    """A block device in memory."""

    def __init__(self):
        self._data = bytearray(64 * 512)

    def readblocks(self, block, buffer, offset=0):
        at = block * 512 + offset
        buffer[:] = self._data[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        at = block * 512 + offset
        self._data[at : at + len(buffer)] = buffer

    def ioctl(self, what, _argument):
        return {4: 64, 5: 512}.get(what, 0)


def refused(work):
    try:
        work()
    except (mdm.StorageError, OSError) as error:
        return error
    raise AssertionError("not refused")


for kind, place in ((vfs.VfsLfs2, "/flash"), (vfs.VfsFat, "/card")):
    disk = Ram()
    kind.mkfs(disk)
    vfs.mount(kind(disk), place)
print("fat", storage.is_fat("/card/mdm"), storage.is_fat("/flash/mdm"), storage.is_fat("/cardboard"))
os.chdir("/card")
print("relative", storage.is_fat("mdm"))
os.chdir("/")
print("refused", refused(lambda: mdm.Files("/card/mdm")))

for place in ("/flash/mdm", folder + "/mdm"):
    steps = []
    store = mdm.Files(place, steps.append)
    assert store.read("config") is None
    store.write("config", {"a": [1, None, "ü"]})
    store.write("config", {"a": [2]})
    assert mdm.Files(place).read("config") == {"a": [2]}
    assert steps[:3] == ["config:before", "config:written", "config:after"], steps
    assert os.listdir(place) == ["config.json"], os.listdir(place)

# A record that does not fit leaves the old one, and takes no room.
store = mdm.Files("/flash/mdm")
refused(lambda: store.write("config", {"a": "x" * 40000}))
assert store.read("config") == {"a": [2]}
assert os.listdir("/flash/mdm") == ["config.json"], os.listdir("/flash/mdm")
store.write("slots", {"a": "x" * 4000})
print("full", "kept")

with open(folder + "/mdm/config.json", "w") as file:
    file.write('{"a": [2')
print("damaged", str(refused(lambda: mdm.Files(folder + "/mdm").read("config"))).rsplit("/", 1)[1])

nvs = mdm.Nvs()
assert nvs.read("config") is None
for length in (10, 2000, 9000):
    nvs.write("config", {"a": "x" * length})
    assert mdm.Nvs().read("config") == {"a": "x" * length}
print("nvs", refused(lambda: nvs.write("config", {"a": "x" * 20000})))
assert len(nvs.read("config")["a"]) == 9000

# A power cut while a blob is replaced may leave neither the old nor the new one.
NVS.cut = True
print("cut", refused(lambda: nvs.write("config", {"a": "new"})))
NVS.cut = False
assert len(mdm.Nvs().read("config")["a"]) == 9000
mdm.Nvs().write("config", {"a": "new"})
assert mdm.Nvs().read("config") == {"a": "new"}
