"""`mdm command`: commands to devices and their results."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Annotated, Final
from uuid import UUID

import typer

from cli import bars, client, device_names, documents, durations, output, pages, selection, session
from cli.arguments import MaybeDevice
from shared.protocol import admin

app = typer.Typer()

POLL_S: Final = 0.5
"""Between two polls of a batch that is not completely answered."""


@app.command("send")
def send(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="reboot, identify, or a command of the device's model.")],
    assignments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Arguments of the command. Values are JSON or else strings; dots separate nested keys.",
        ),
    ] = None,
    *,
    device: Annotated[str | None, typer.Option(help="One device: its id or key, name, or MAC address.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All devices, or all that match --tag and --model.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Devices of this model.")] = None,
    expires_in_s: Annotated[
        str,
        typer.Option(
            "--expires", metavar="TIME", help="Time after which devices ignore the command: 60s, 5m, 2h, up to 7d."
        ),
    ] = "60s",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for answers of the devices.")] = False,
    dry_run: selection.DryRun = False,
    yes: selection.Yes = False,
) -> None:
    """Send a command to one or more devices.

    Wait until each device that is online has answered, or the command has expired. For a device that is offline
    the command stays queued until it expires: `mdm command show` includes late answers. The exit status is 1 if a
    device failed or did not answer.
    """
    selection.check(device, everything=everything, tag=tag, model=model, one="--device")
    request = client.build(
        admin.COMMAND_SEND,
        device=device and device_names.ANY,
        all=everything,
        tag=tag,
        model=model,
        name=name,
        arguments=documents.assign(assignments or []),
        expires_in_s=durations.seconds(expires_in_s, field="expires_in_s"),
    )
    here = session.of(ctx)
    if device is None:
        found = selection.find(here, tag=tag, model=model)
    else:
        found = [here.request(admin.DEVICE_SHOW, device=device)]
        request = request.model_copy(update={"device": found[0].client_id})
    found = [it for it in found if it.enabled] or found
    selection.confirm(here, f"send {name} to", found, yes=yes, dry_run=dry_run)
    offline = {it.client_id for it in found if not it.online}

    async def work(connection: client.Admin) -> tuple[admin.CommandSent, admin.CommandBatch | None]:
        sent = await connection.call(admin.COMMAND_SEND, request, timeout_s=here.timeout_s)
        if sent.skipped:
            output.print_note(f"skipped disabled devices: {', '.join(sent.skipped)}")
        if no_wait:
            return sent, None
        output.print_note(f"batch {sent.batch_id} expires at {output.cell(sent.expires_at)}")
        late = offline & {it.client_id for it in sent.commands}
        if late:
            are = f"{len(late)} of {len(sent.commands)} devices are" if len(sent.commands) > 1 else "the device is"
            output.print_note(f"{are} offline: the command stays queued, see `mdm command show {sent.batch_id}`")
        return sent, await _answered(connection, sent, late, timeout_s=here.timeout_s)

    sent, batch = here.run(work)
    if batch is None:
        here.show_facts(sent, ("batch=batch_id", ("devices", lambda it: len(it.commands)), "expires=expires_at"))
        return
    _show_batch(here, batch)
    if batch.counts.ok < len(sent.commands):
        raise typer.Exit(1)


@app.command("show")
def show(
    ctx: typer.Context,
    batch_id: Annotated[UUID, typer.Argument(metavar="BATCH", help="Batch, from `mdm command send` or `list`.")],
) -> None:
    """Show the results of a command on all of its devices."""
    here = session.of(ctx)
    _show_batch(here, here.run(lambda connection: _whole(connection, batch_id, timeout_s=here.timeout_s)))


@app.command("list")
def show_newest(
    ctx: typer.Context,
    device: MaybeDevice = None,
    limit: Annotated[int, typer.Option(help="Maximum number of commands, up to 500.")] = 100,
) -> None:
    """List the newest commands to all devices or one."""
    here = session.of(ctx)
    found = here.request(admin.COMMAND_LIST, device=device, limit=limit)
    here.show_table(
        found,
        found.commands,
        (
            "device=client_id, command=name, --arguments, --by=author, -at=created_at, outcome",
            ("result", _answer),
            "---batch=batch_id",
        ),
        none="no commands yet; `mdm command send NAME --device DEVICE` sends one",
    )


async def _answered(
    connection: client.Admin, sent: admin.CommandSent, offline: Collection[str], *, timeout_s: float
) -> admin.CommandBatch:
    """Poll until only `offline` devices are waiting; expiry of the batch ends this at the latest."""
    with bars.progress(in_bytes=False) as progress:
        bar = progress.add_task("answers", total=len(sent.commands))
        while True:
            look = client.build(admin.COMMAND_SHOW, batch_id=sent.batch_id, limit=1)
            counts = (await connection.call(admin.COMMAND_SHOW, look, timeout_s=timeout_s)).counts
            progress.update(bar, completed=counts.ok + counts.failed)
            if counts.waiting <= len(offline):
                batch = await _whole(connection, sent.batch_id, timeout_s=timeout_s)
                if all(it.outcome != "waiting" or it.client_id in offline for it in batch.commands):
                    return batch
            await asyncio.sleep(POLL_S)


async def _whole(connection: client.Admin, batch_id: UUID, *, timeout_s: float) -> admin.CommandBatch:
    """Return a batch with all of its devices."""
    request = client.build(admin.COMMAND_SHOW, batch_id=batch_id)
    return await pages.collect(connection, admin.COMMAND_SHOW, request, "commands", timeout_s=timeout_s)


def _show_batch(here: session.Session, batch: admin.CommandBatch) -> None:
    here.show_table(batch, batch.commands, ("device=client_id, outcome", ("result", _answer)))


def _answer(command: admin.CommandView) -> object:
    return command.result if command.error is None else command.error
