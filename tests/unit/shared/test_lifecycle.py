"""A service gives memory back: measured in a process of its own, whose heap nothing else has used."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Final

import pytest

PAIRS: Final = 2000
LARGE_BYTES: Final = 20_000
_SCRIPT: Final = f"""
import re, sys
from pathlib import Path
from shared import lifecycle

def rss_bytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

if sys.argv[1] == "service":
    lifecycle._return_large_blocks()
before = rss_bytes()
# Between the large blocks lie small ones that stay.
pairs = [(bytes([1]) * {LARGE_BYTES}, bytes([1]) * 600) for _ in range({PAIRS})]
small = [second for _, second in pairs]
del pairs
print(rss_bytes() - before)
"""


def kept_bytes(kind: str) -> int:
    """Return by how much a process has grown when its large blocks are free again."""
    command = [sys.executable, "-c", _SCRIPT, kind]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has another heap")
def test_large_blocks_are_given_back_though_small_ones_between_them_stay() -> None:
    assert kept_bytes("service") < kept_bytes("any process") / 2
