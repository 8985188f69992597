"""`mdm firmware inspect`: what an image file says of itself, without a connection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import output, session
from shared import admin, esp32_image
from shared.errors import InvalidInputError

ImageFile = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The .bin file.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of `mdm firmware`."""
    app.command("inspect")(inspect)


def read(file: Path) -> bytes:
    """Return a file that may be an image by its size, or raise InvalidInputError."""
    size_bytes = file.stat().st_size
    if size_bytes > admin.MAX_IMAGE_BYTES:
        raise InvalidInputError(f"file: must be at most {admin.MAX_IMAGE_BYTES} bytes, has {size_bytes}")
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"file: {file} can not be read: {error.strerror}") from error


def inspect(ctx: typer.Context, file: ImageFile) -> None:
    """Check an image as the upload does, and show what it says of itself; needs no connection."""
    image = esp32_image.parse(read(file))
    facts = asdict(image)
    if session.of(ctx).as_json:
        output.print_json(facts)
        return
    output.print_facts(
        {
            **{name.replace("_", " "): value for name, value in facts.items()},
            "size bytes": f"{image.size_bytes} ({output.size(image.size_bytes)})",
            "entry point": f"0x{image.entry_point:08x}",
            "segments": [f"{one.size_bytes} bytes to 0x{one.load_address:08x}" for one in image.segments],
        }
    )
