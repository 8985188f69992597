"""A record of the port for ESP-IDF is the old one or the new one, wherever the power is cut while it is replaced.

The NVS of the board of files leaves neither of them when a blob is replaced under its own name, as ESP-IDF's may.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.sdk.c_device import build, image_file

CUTS_MAX = 40


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    image = image_file(folder.parent, "records")[1]
    command = [str(build("board-records")), str(folder), image]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=20
    )


def test_no_power_cut_leaves_a_board_without_its_record(tmp_path: Path) -> None:
    first = tmp_path / "first"
    for value in ("one", "two"):
        assert start(first, STORE=value).returncode == 0
    for at in range(1, CUTS_MAX):
        place = tmp_path / f"cut{at}"
        shutil.copytree(first, place)
        cut = start(place, STORE="three", MDM_CUT_AT=f"*#{at}")
        found = start(place)
        assert (found.returncode, found.stdout) in {(0, "two\n"), (0, "three\n")}, at
        assert start(place, STORE="four").returncode == 0
        assert start(place).stdout == "four\n"
        if cut.returncode == 0:
            assert at > 5
            return
        assert cut.returncode == -signal.SIGKILL
    raise AssertionError("the power was cut each time")
