"""`mdm coredump`: core dumps of crashed devices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli import bars, client, output, session
from cli.arguments import MaybeDevice
from shared.errors import ConflictError
from shared.protocol import admin

app = typer.Typer()

_Id = Annotated[int, typer.Argument(metavar="ID", help="Id of the core dump, from `mdm coredump list`.")]


@app.command("list")
def show_newest(
    ctx: typer.Context,
    device: MaybeDevice = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of core dumps.")] = 100,
) -> None:
    """List the newest core dumps of all devices or one."""
    here = session.of(ctx)
    found = here.request_pages(admin.COREDUMP_LIST, "dumps", limit=limit, device=device)
    _show(here, found, found.dumps)


@app.command("get")
def get(
    ctx: typer.Context,
    id: _Id,  # noqa: A002 - the field's name
    file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write to.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Download a core dump.

    The file is written when the hash has been verified, and only its owner can read it.
    """
    if file.exists() and not force:
        raise ConflictError(f"--output: {file} exists; --force replaces it")
    here = session.of(ctx)
    wanted = client.build(admin.COREDUMP_SHOW, id=id)
    with bars.progress() as progress:

        async def work(connection: client.Admin) -> tuple[admin.CoreDumpView, bytes]:
            view = await connection.call(admin.COREDUMP_SHOW, wanted, timeout_s=here.timeout_s)
            bar = progress.add_task(output.clean(file.name), total=view.size_bytes)
            data = await fetch(
                connection,
                view,
                timeout_s=here.timeout_s,
                on_progress=lambda size_bytes: progress.update(bar, completed=size_bytes),
            )
            return view, data

        view, data = here.run(work)
    output.write_private(file, data, replace=force)
    _show(here, view, [view])


async def fetch(
    connection: client.Admin, view: admin.CoreDumpView, *, timeout_s: float, on_progress: Callable[[int], object]
) -> bytes:
    """Return the content of a core dump; raise AnswerError if its hash does not match."""
    data = b""
    while len(data) < view.size_bytes:
        request = client.build(admin.COREDUMP_READ, id=view.id, offset=len(data))
        data += (await connection.call(admin.COREDUMP_READ, request, timeout_s=timeout_s)).data
        on_progress(len(data))
    found = hashlib.sha256(data).hexdigest()
    if found != view.sha256:
        raise client.AnswerError("damaged", f"sha256: expected {view.sha256}, found {found}", {})
    return data


@app.command("delete")
def delete(ctx: typer.Context, id: _Id) -> None:  # noqa: A002 - as above
    """Delete a core dump."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.COREDUMP_DELETE, id=id))


def _show(here: session.Session, result: admin.Result, dumps: list[admin.CoreDumpView]) -> None:
    here.show_table(
        result,
        dumps,
        (
            "ID=id, device=client_id, stored=stored_at",
            ("--size", lambda it: output.size(it.size_bytes)),
            "-model=image_model",
            ("image", lambda it: it.image_version or "unknown image"),
            "reason",
            ("---ELF SHA256", lambda it: it.elf_sha256[:12]),
        ),
        none="no core dumps yet; devices send them after a crash",
    )
