"""The device in C, built once for a run of the tests, with sanitizers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dev.devices import C_SOURCES as SOURCES
from dev.devices import build
from device import image_builder

__all__ = ["SOURCES", "UNDEFINED", "build", "image_file"]
UNDEFINED: Final = "-O1 -g -fsanitize=undefined -fno-sanitize-recover=all"


def image_file(folder: Path, model: str) -> tuple[str, ...]:
    """Return the options for app partitions, the first of which has an image 1.0.0."""
    file = folder / f"{model}.bin"
    file.write_bytes(image_builder.build(version="1.0.0", project=model))
    return "--image", str(file)
