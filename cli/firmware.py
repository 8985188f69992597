"""`mdm firmware`: images, their upload in pieces, and what becomes of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import bars, client, firmware_keys, image_files, output, session, tables
from shared.protocol import admin

app = typer.Typer()
app.add_typer(firmware_keys.app, name="key")
image_files.add_to(app)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="The image's version.")]

WINDOW: Final = 8
"""How many pieces are under way at once."""


@app.command("upload")
def upload(
    ctx: typer.Context,
    file: image_files.ImageFile,
    *,
    model: Annotated[str, typer.Option(help="The code of the model that it is for.")],
    version: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Refuse the image unless this is its version.")
    ] = None,
    release: Annotated[
        bool, typer.Option("--release/--no-release", help="Make it the model's image, and tell its devices.")
    ] = True,
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The signature, of `mdm firmware sign`."),
    ] = None,
) -> None:
    """Upload an image; one that was interrupted goes on where it stopped."""
    here = session.of(ctx)
    data = image_files.read(file)
    signed = None if signature is None else image_files.read_signature(signature)
    begin = client.build(
        admin.UPLOAD_BEGIN,
        model=model,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        version=version,
    )
    with bars.progress() as progress:
        bar = progress.add_task(output.clean(file.name), total=len(data))

        async def work(connection: client.Admin) -> admin.ImageView:
            return await send(
                connection,
                begin,
                data,
                release=release,
                signature=signed,
                timeout_s=here.timeout_s,
                on_progress=lambda sent_bytes: progress.update(bar, completed=sent_bytes),
            )

        image = here.run(work)
    here.show(image, _print)


async def send(
    connection: client.Admin,
    begin: admin.UploadBegin,
    data: bytes,
    *,
    release: bool,
    signature: bytes | None,
    timeout_s: float,
    on_progress: Callable[[int], object],
) -> admin.ImageView:
    """Send what the service has not got yet, WINDOW pieces at a time, and finish.

    `on_progress` is called with the number of bytes that the service has.
    """
    begun = await connection.call(admin.UPLOAD_BEGIN, begin, timeout_s=timeout_s)
    pieces = {offset: data[offset : offset + begun.chunk_size_bytes] for offset in begun.missing}
    sent_bytes = len(data) - sum(map(len, pieces.values()))
    on_progress(sent_bytes)
    offsets = iter(pieces)

    async def take_turns() -> None:
        nonlocal sent_bytes
        for offset in offsets:
            chunk = client.build(
                admin.UPLOAD_CHUNK,
                upload_id=begun.upload_id,
                offset=offset,
                data=base64.b64encode(pieces[offset]),
            )
            await connection.call(admin.UPLOAD_CHUNK, chunk, timeout_s=timeout_s)
            sent_bytes += len(pieces[offset])
            on_progress(sent_bytes)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(min(WINDOW, len(pieces))):
                tasks.create_task(take_turns(), name=f"upload-{number}")
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finish = client.build(
        admin.UPLOAD_FINISH,
        upload_id=begun.upload_id,
        release=release,
        signature=None if signature is None else base64.b64encode(signature),
    )
    return await connection.call(admin.UPLOAD_FINISH, finish, timeout_s=timeout_s)


@app.command("list")
def show_all(
    ctx: typer.Context, model: Annotated[str | None, typer.Option(help="Only the images of this model.")] = None
) -> None:
    """List the images, newest first."""
    here = session.of(ctx)
    found = here.ask_pages(admin.IMAGE_LIST, "images", model=model)
    here.show(found, lambda all_of_them: _print_table(all_of_them.images))


@app.command("show")
def show(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Show an image, how many devices run it, and how many are fetching it."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_SHOW, model=model, version=version), tables.print_result)


@app.command("release")
def release(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Make a stored image its model's image, and tell the devices; also the way back to an older one."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_RELEASE, model=model, version=version), _print)


@app.command("withdraw")
def withdraw(ctx: typer.Context, model: firmware_keys.Model) -> None:
    """Leave a model without an image: devices stay with what they run, and its images can be deleted."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_WITHDRAW, model=model), tables.print_result)


@app.command("pin")
def pin(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Keep an image however old it gets."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_PIN, model=model, version=version), _print)


@app.command("unpin")
def unpin(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Let an image go when it is old and not used."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_UNPIN, model=model, version=version), _print)


@app.command("delete")
def delete(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Delete an image, unless it is its model's, runs on a device, or is being delivered."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_DELETE, model=model, version=version), tables.print_result)


def _print(image: admin.ImageView) -> None:
    _print_table([image])


def _print_table(images: list[admin.ImageView]) -> None:
    if not images:
        output.print_note("no images yet; `mdm firmware upload FILE --model MODEL` adds one")
        return
    tables.print_table(
        (
            "MODEL",
            "VERSION",
            "CURRENT",
            "PINNED",
            "SIGNED",
            "PROJECT",
            "CHIP",
            "SIZE",
            "IDF",
            "UPLOADED",
            "SHA256",
        ),
        (
            (
                image.model,
                image.version,
                image.current,
                image.pinned,
                _signed(image),
                image.project,
                image.chip,
                output.size(image.size_bytes),
                image.idf_version,
                image.uploaded_at,
                image.sha256[:12],
            )
            for image in images
        ),
    )


def _signed(image: admin.ImageView) -> str:
    """Say whether a trusted key has signed an image."""
    if image.signed_by is not None:
        return image.signed_by[:12]
    return "no" if image.signature is None else "untrusted"
