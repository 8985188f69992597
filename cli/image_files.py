"""`mdm firmware inspect` and `sign`, which need no connection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import output, session, tables
from shared.errors import ConflictError, InvalidInputError
from shared.esp32 import ed25519, flash
from shared.esp32 import image as esp32_image
from shared.esp32 import signature as image_signature
from shared.esp32.secure_boot import SignatureBlock
from shared.protocol import admin

ImageFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The image, a .bin file.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of `mdm firmware`."""
    app.command("inspect")(inspect)
    app.command("sign")(sign)


def read(file: Path, *, extract_app: bool = False) -> bytes:
    """Return the content of an image file, or raise InvalidInputError if it cannot be read or is too large.

    With `extract_app`, return the app in a merged flash image, or raise InvalidInputError if it is no such image.
    """
    size_bytes = file.stat().st_size
    if size_bytes > admin.MAX_IMAGE_BYTES:
        raise InvalidInputError(f"file: must be at most {admin.MAX_IMAGE_BYTES} bytes, has {size_bytes}")
    data = _bytes_of(file, field="file")
    if not extract_app:
        return data
    app = flash.app_in(data)
    if app is None:
        raise InvalidInputError("extract_app: the file is no merged flash image with an app; upload it as it is")
    return data[app.offset : app.offset + app.size_bytes]


def read_signature(file: Path) -> bytes:
    """Return the signature in a file, or raise InvalidInputError."""
    signature = _bytes_of(file, field="signature")
    if len(signature) != ed25519.SIGNATURE_BYTES:
        expected = f"{ed25519.SIGNATURE_BYTES} bytes, as `mdm firmware sign` writes them"
        raise InvalidInputError(f"signature: expected {expected}, found {len(signature)}")
    return signature


def read_pem(file: Path) -> bytes:
    """Return the content of a key file, or raise InvalidInputError."""
    return _bytes_of(file, field="key")


def inspect(ctx: typer.Context, file: ImageFile) -> None:
    """Check an image as the upload does, and show its metadata.

    Needs no connection.
    """
    image = esp32_image.parse(read(file))
    facts = asdict(image)
    if session.of(ctx).as_json:
        output.print_json(facts)
        return
    tables.print_all(
        {
            **{name.replace("_", " "): value for name, value in facts.items()},
            "min chip revision": esp32_image.revision(image.min_chip_revision),
            "max chip revision": esp32_image.revision(image.max_chip_revision)
            if image.max_chip_revision
            else "any",
            "size bytes": f"{image.size_bytes} ({output.size(image.size_bytes)})",
            "entry point": f"0x{image.entry_point:08x}",
            "segments": [f"{one.size_bytes} bytes to 0x{one.load_address:08x}" for one in image.segments],
            "signatures": [_signature(one) for one in image.signatures],
        }
    )


def sign(
    ctx: typer.Context,
    file: ImageFile,
    *,
    key: Annotated[Path, typer.Option(metavar="PEM", exists=True, dir_okay=False, help="Ed25519 private key.")],
    target: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="File to write to; the default is FILE.sig.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Sign an image for `mdm firmware upload --signature`.

    Needs no connection.
    """
    image = esp32_image.parse(read(file))
    private_key = image_signature.private_key_of(read_pem(key))
    written = target or file.with_name(f"{file.name}.sig")
    if written.exists() and not force:
        raise ConflictError(f"--output: {written} exists; --force replaces it")
    output.write_private(written, image_signature.sign(private_key, image.sha256), replace=force)
    facts: dict[str, object] = {
        "signature": str(written),
        "sha256": image.sha256,
        "version": image.embedded_version,
        "fingerprint": image_signature.fingerprint(private_key.public_key().public_bytes_raw()),
    }
    session.of(ctx).show_facts(facts)


def _signature(block: SignatureBlock) -> str:
    key = "its key is not in the file" if block.key_digest is None else f"key {block.key_digest}"
    return f"Secure Boot V{block.version}, {block.scheme}, {key}"


def _bytes_of(file: Path, *, field: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{field}: {file} cannot be read: {error.strerror}") from error
