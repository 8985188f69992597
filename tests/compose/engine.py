"""Whether there is a Docker engine to bring compose.yaml up on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from dev.servers.containers import IMAGES

ROOT: Final = Path(__file__).parents[2]
_NEEDED: Final = (*IMAGES, "python:3.13-slim")


def is_there() -> bool:
    """Say whether `docker` reaches an engine that has the images, and Docker Compose."""
    if shutil.which("docker") is None:
        return False
    commands = (["docker", "image", "inspect", *_NEEDED], ["docker", "compose", "version"])
    return all(subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in commands)
