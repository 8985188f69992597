"""Fixtures for all tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import stack as stack_module

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack() -> Iterator[stack_module.Stack]:
    # Not below pytest's own folder: only its owner may enter that, and PostgreSQL runs as another user.
    with tempfile.TemporaryDirectory(prefix="device-mdm-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with stack_module.running(folder) as running:
            yield running
