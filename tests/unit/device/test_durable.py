"""When a device's writes wait for the disk."""

from __future__ import annotations

import contextvars
import os
from pathlib import Path

import pytest

from device import durable


@pytest.mark.parametrize(("waits", "synced"), [(True, 2), (False, 0)])
def test_a_file_and_its_name_wait_for_the_disk_but_for_simulated_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool, synced: int
) -> None:
    handles: list[int] = []
    monkeypatch.setattr(os, "fsync", handles.append)

    def write() -> None:
        if not waits:
            durable.WAITS.set(False)
        durable.write(tmp_path / "file", b"data", name="test")

    contextvars.copy_context().run(write)
    assert len(handles) == synced
    assert (tmp_path / "file").read_bytes() == b"data"
