"""`mdm firmware`: images: upload in chunks, release, pin, delete."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import bars, client, firmware_keys, image_files, lifecycle, output, selection, session, vitals
from shared.esp32 import image as esp32_image
from shared.protocol import admin

app = typer.Typer()
app.add_typer(firmware_keys.app, name="key")
image_files.add_to(app)
app.command("vitals")(vitals.of_model)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Label of the image.")]

WINDOW: Final = 8
"""Maximum number of concurrent chunks."""
_NAMED: Final = 10


@app.command("upload")
def upload(
    ctx: typer.Context,
    file: image_files.ImageFile,
    *,
    model: Annotated[str, typer.Option(help="Code of the image's model.")],
    version: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Label of the image; the default is the version embedded in it."),
    ] = None,
    extract_app: Annotated[
        bool, typer.Option("--extract-app", help="Take the app out of a merged flash image.")
    ] = False,
    release: Annotated[
        bool,
        typer.Option(
            "--release/--no-release",
            help="Release the image: make it the model's image and offer it to the model's devices.",
        ),
    ] = True,
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Signature from `mdm firmware sign`."),
    ] = None,
    yes: lifecycle.Yes = False,
) -> None:
    """Upload an image; an interrupted upload resumes where it stopped.

    Before the release it asks if several devices would get the image, or some would not take it.
    """
    here = session.of(ctx)
    data = image_files.read(file, extract_app=extract_app)
    esp32_image.parse(data)  # the error names what another file is, before anything is sent
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
                release=False,
                signature=signed,
                timeout_s=here.timeout_s,
                on_progress=lambda sent_bytes: progress.update(bar, completed=sent_bytes),
            )

        image = here.run(work)
    _show(here, _release(here, model, image.version, yes=yes) if release else image)


def _release(here: session.Session, model: str, version: str, *, yes: bool) -> admin.ImageView:
    """Say what a release will do, ask if some devices would not take the image, and release it."""
    found = here.request(admin.ROLLOUT_PREFLIGHT, model=model, version=version)
    total = found.fit + found.already.count + found.count
    output.print_note(f"{total - found.refusing} of {total} devices would take {model} {version}")
    for problem in [one for one in found.problems if one.refuses][:_NAMED]:
        output.print_note(f"{problem.name or problem.client_id} would not: {problem.reason}")
    if found.refusing > _NAMED:
        output.print_note(f"and {found.refusing - _NAMED} more; see `mdm rollout preflight {model} {version}`")
    if found.refusing or total - found.already.count > 1:
        lifecycle.confirm(f"release {model} {version}?", yes=yes, done=f"{version} is stored and not released")
    return here.request(admin.IMAGE_RELEASE, model=model, version=version)


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
    """Upload the missing chunks, WINDOW at a time, and finish.

    `on_progress` is called with the number of bytes that the service has.
    """
    begun = await connection.call(admin.UPLOAD_BEGIN, begin, timeout_s=timeout_s)
    chunks = {offset: data[offset : offset + begun.chunk_size_bytes] for offset in begun.missing}
    sent_bytes = len(data) - sum(map(len, chunks.values()))
    on_progress(sent_bytes)
    offsets = iter(chunks)

    async def send_chunks() -> None:
        nonlocal sent_bytes
        for offset in offsets:
            chunk = client.build(
                admin.UPLOAD_CHUNK,
                upload_id=begun.upload_id,
                offset=offset,
                data=base64.b64encode(chunks[offset]),
            )
            await connection.call(admin.UPLOAD_CHUNK, chunk, timeout_s=timeout_s)
            sent_bytes += len(chunks[offset])
            on_progress(sent_bytes)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(min(WINDOW, len(chunks))):
                tasks.create_task(send_chunks(), name=f"upload-{number}")
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
    ctx: typer.Context, model: Annotated[str | None, typer.Option(help="Only images of this model.")] = None
) -> None:
    """List the images, newest first."""
    here = session.of(ctx)
    found = here.request_pages(admin.IMAGE_LIST, "images", model=model)
    if not found.images:
        here.run(lambda connection: selection.check_filters(connection, model=model, timeout_s=here.timeout_s))
    _show(here, found)


@app.command("show")
def show(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Show an image, and how many devices run or download it."""
    here = session.of(ctx)
    here.show_facts(
        here.request(admin.IMAGE_SHOW, model=model, version=version),
        (
            "model, version, embedded=embedded_version, current, pinned, project, chip",
            ("chip revisions", _revisions),
            ("size", lambda it: f"{it.size_bytes} ({output.size(it.size_bytes)})"),
            "IDF=idf_version, secure version=secure_version",
            ("Secure Boot", lambda it: it.secure_boot_keys or it.secure_boot_signatures or None),
            "SHA256=sha256, app SHA256=app_sha256, ELF SHA256=elf_sha256, signature",
            ("signed by", lambda it: it.signed_by or _signed(it)),
            "uploaded=uploaded_at, by=uploaded_by, running, delivering, rollout",
        ),
    )


@app.command("release")
def release(
    ctx: typer.Context, model: firmware_keys.Model, version: Version, *, yes: lifecycle.Yes = False
) -> None:
    """Make a stored image the model's image.

    It is offered to the model's devices; if there are several, or some would not take it, this asks first. An
    older image can be released again.
    """
    here = session.of(ctx)
    _show(here, _release(here, model, version, yes=yes))


@app.command("withdraw")
def withdraw(ctx: typer.Context, model: firmware_keys.Model) -> None:
    """Leave a model without an image.

    Devices keep the image that they run. The model's images can then be deleted.
    """
    here = session.of(ctx)
    withdrawn = here.request(admin.IMAGE_WITHDRAW, model=model)
    here.show(
        withdrawn,
        lambda it: output.print_line(
            f"{model} has no image any more; {it.removed} stays stored, and on its devices"
        ),
    )


@app.command("pin")
def pin(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Exempt an image from automatic deletion."""
    here = session.of(ctx)
    _show(here, here.request(admin.IMAGE_PIN, model=model, version=version))


@app.command("unpin")
def unpin(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Allow automatic deletion of an image that is old and unused."""
    here = session.of(ctx)
    _show(here, here.request(admin.IMAGE_UNPIN, model=model, version=version))


@app.command("delete")
def delete(ctx: typer.Context, model: firmware_keys.Model, version: Version) -> None:
    """Delete an image.

    This is refused if it is the model's image, runs on a device, or is being delivered.
    """
    here = session.of(ctx)
    here.show_facts(here.request(admin.IMAGE_DELETE, model=model, version=version))


def _show(here: session.Session, result: admin.ImageView | admin.Images) -> None:
    """Print images as a table that fits into 80 columns; all facts are in `show`."""
    here.show_table(
        result,
        result.images if isinstance(result, admin.Images) else [result],
        (
            "model, version",
            ("state", lambda it: [state for state in ("current", "pinned") if getattr(it, state)]),
            ("-signed", _signed),
            "--project",
            ("-size", lambda it: output.size(it.size_bytes)),
            "uploaded=uploaded_at",
        ),
        none="no images yet; `mdm firmware upload FILE --model MODEL` adds one",
    )


def _revisions(image: admin.ImageView) -> str:
    """Return the revisions of the chip that run an image."""
    most = image.max_chip_revision
    return f"{esp32_image.revision(image.min_chip_revision)} to {esp32_image.revision(most) if most else 'any'}"


def _signed(image: admin.ImageView) -> str:
    """Return the key that has signed an image, `no` or `untrusted`."""
    if image.signed_by is not None:
        return image.signed_by[:12]
    return "no" if image.signature is None else "untrusted"
