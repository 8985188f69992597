"""`mdm firmware`: images, and their upload in pieces."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Annotated, Final

import typer

from cli import image_files, output, session
from cli.client import Admin
from shared import admin

app = typer.Typer(help="Firmware images.")
image_files.add_to(app)

WINDOW: Final = 8
"""How many pieces are under way at once."""


@app.command("upload")
def upload(
    ctx: typer.Context,
    file: image_files.ImageFile,
    model: Annotated[str, typer.Option(help="The code of the model that it is for.")],
    version: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Refuse the image unless this is its version.")
    ] = None,
    release: Annotated[
        bool, typer.Option("--release/--no-release", help="Make it the model's image, and tell its devices.")
    ] = True,
) -> None:
    """Upload an image; one that was interrupted goes on where it stopped."""
    here = session.of(ctx)
    data = image_files.read(file)
    begin = session.build(
        admin.UPLOAD_BEGIN,
        model=model,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        version=version,
    )
    with output.progress() as progress:
        bar = progress.add_task(output.clean(file.name), total=len(data))

        async def work(connection: Admin) -> admin.ImageView:
            return await send(
                connection,
                begin,
                data,
                release=release,
                timeout_s=here.timeout_s,
                on_progress=lambda sent_bytes: progress.update(bar, completed=sent_bytes),
            )

        image = here.run(work)
    here.show(image, lambda one: _print([one]))


async def send(
    connection: Admin,
    begin: admin.UploadBegin,
    data: bytes,
    *,
    release: bool,
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
            chunk = session.build(
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
    finish = session.build(admin.UPLOAD_FINISH, upload_id=begun.upload_id, release=release)
    return await connection.call(admin.UPLOAD_FINISH, finish, timeout_s=timeout_s)


@app.command("list")
def show_all(ctx: typer.Context) -> None:
    """List the images, newest first."""
    here = session.of(ctx)
    here.show(here.ask(admin.IMAGE_LIST), lambda found: _print(found.images))


def _print(images: list[admin.ImageView]) -> None:
    if not images:
        output.print_note("no images yet; `mdm firmware upload FILE --model MODEL` adds one")
        return
    output.print_table(
        ("MODEL", "VERSION", "CURRENT", "PROJECT", "CHIP", "SIZE", "IDF", "UPLOADED", "SHA256"),
        (
            (
                image.model,
                image.version,
                image.current,
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
