"""What a service does to its process before all else: seen in a process of its own."""

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
from shared.runtime import lifecycle

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


def test_a_service_may_open_as_many_files_as_its_process_may_allow_itself() -> None:
    script = """
import resource
from shared.runtime import lifecycle
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
try:
    lifecycle.run("test", None, None)
except AttributeError:
    pass  # there are no settings to load
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
