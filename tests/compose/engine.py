"""A Docker engine to bring compose.yaml up on: the one that is there, or one of stand-ins, for the block."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dev.servers.containers import IMAGES

ROOT: Final = Path(__file__).parents[2]
_WITH_STANDINS: Final = ROOT / "scripts/with-docker-standins"
_NOT_HERE: Final = 69
_SAY_WHERE: Final = 'echo "$DOCKER_HOST"; echo "$DOCKER_CONFIG"; cat'
_NEEDED: Final = (*IMAGES, "python:3.13-slim")


class NoEngineError(Exception):
    """There is none, and none can be started; the message says why."""


@contextmanager
def running() -> Iterator[Mapping[str, str]]:
    """Yield the environment in which `docker` reaches the engine; raise NoEngineError."""
    if _is_there():
        yield {}
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngineError("no Docker engine has the images, and to start one takes root on Debian")
    # It ends the engine when its input ends, also when this process is killed.
    command = [str(_WITH_STANDINS), "sh", "-c", _SAY_WHERE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        host, config = process.stdout.readline().strip(), process.stdout.readline().strip()
        if not host:
            if process.wait() == _NOT_HERE:
                raise NoEngineError("no Docker engine has the images, and none can be started here")
            raise RuntimeError("scripts/with-docker-standins: failed, see its output")
        try:
            yield {"DOCKER_HOST": host, "DOCKER_CONFIG": config, "MDM_BUILD_NETWORK": "host"}
        finally:
            process.stdin.close()
            process.wait()


def _is_there() -> bool:
    if shutil.which("docker") is None:
        return False
    commands = (["docker", "image", "inspect", *_NEEDED], ["docker", "compose", "version"])
    return all(subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in commands)
