"""Runs on MicroPython: the first two starts of a board, with all its files on littlefs, installed as mip does.

The arguments are the compiled package and a provisioning package.
"""

import os
import sys
import time

import vfs

BLOCK = 512


class Ram:
    """A flash of 256 KiB in memory."""

    def __init__(self):
        self._data = bytearray(512 * BLOCK)

    def readblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        buffer[:] = self._data[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        self._data[at : at + len(buffer)] = buffer

    def ioctl(self, what, _argument):
        return {4: 512, 5: BLOCK}.get(what, 0)


files = {"/package.json": sys.argv[2]}
files.update({f"/lib/mdm/{name}": f"{sys.argv[1]}/mdm/{name}" for name in os.listdir(sys.argv[1] + "/mdm")})
contents = {}
for target, source in files.items():
    with open(source, "rb") as file:
        contents[target] = file.read()
flash = Ram()
vfs.VfsLfs2.mkfs(flash)
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash), "/")
os.mkdir("/lib")
os.mkdir("/lib/mdm")
for target, data in contents.items():
    with open(target, "wb") as file:
        file.write(data)
sys.path[:] = ["", ".frozen", "/lib"]
for _ in range(2):
    for name in [name for name in sys.modules if name.startswith("mdm")]:
        del sys.modules[name]
    import mdm

    device = mdm.Device("1.0.0")
    device.poll()
    print(device.credentials.login_order()[0]["generation"], device.key.public)
    time.sleep_ms(1)
print(sorted(os.listdir("/")))
