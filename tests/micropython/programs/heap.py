"""Runs on MicroPython: prints how many bytes of heap the modules of the package take once they are imported."""

import gc
import sys

sys.path[:0] = [sys.argv[1]]

for name in ("binascii", "hashlib", "json", "os", "random", "select", "socket", "time", "vfs"):
    __import__(name)  # they are not the package's
gc.collect()
before = gc.mem_alloc()
for name in ("mdm", "mdm.firmware", "mdm.wifi"):
    __import__(name)
gc.collect()
print(gc.mem_alloc() - before)
