"""`mdm command`: tell devices to do something once, and see what became of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from uuid import UUID

import typer

from cli import bars, client, documents, durations, output, pages, session, tables
from cli.arguments import MaybeDevice
from shared.protocol import admin

app = typer.Typer()

POLL_S: Final = 0.5
"""Between two looks at a batch that is not answered yet."""


@app.command("send")
def send(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="reboot, identify, or what the device's model lists.")],
    assignments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Its arguments: JSON, else strings; dots nest."),
    ] = None,
    *,
    device: Annotated[str | None, typer.Option(help="One device: its key or its whole client id.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All devices, or all that fit --tag and --model.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Devices of this model.")] = None,
    expires: Annotated[
        str,
        typer.Option(metavar="TIME", help="A device that gets it later does not do it: 60s, 5m, 2h, up to 7d."),
    ] = "60s",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the devices' answers.")] = False,
) -> None:
    """Send a command, and wait until each device has answered or the command has expired.

    The status is 1 if a device failed or did not answer; `mdm command show` shows it again, with late answers.
    """
    request = client.build(
        admin.COMMAND_SEND,
        device=device,
        all=everything,
        tag=tag,
        model=model,
        name=name,
        arguments=documents.assign(assignments or []),
        expires_in_s=durations.seconds(expires, field="expires"),
    )
    here = session.of(ctx)

    async def work(connection: client.Admin) -> tuple[admin.CommandSent, admin.CommandBatch | None]:
        sent = await connection.call(admin.COMMAND_SEND, request, timeout_s=here.timeout_s)
        if sent.skipped:
            output.print_note(f"skipped, as they are disabled: {', '.join(sent.skipped)}")
        if no_wait:
            return sent, None
        output.print_note(f"batch {sent.batch_id} expires at {output.cell(sent.expires_at)}")
        await _wait(connection, sent, timeout_s=here.timeout_s)
        return sent, await _whole(connection, sent.batch_id, timeout_s=here.timeout_s)

    sent, batch = here.run(work)
    if batch is None:
        here.show(sent, _print_sent)
        return
    here.show(batch, _print_batch)
    if batch.counts.ok < len(sent.commands):
        raise typer.Exit(1)


@app.command("show")
def show(
    ctx: typer.Context,
    batch: Annotated[UUID, typer.Argument(metavar="BATCH", help="As `mdm command send` and `list` name it.")],
) -> None:
    """Show what became of a command on each of its devices."""
    here = session.of(ctx)
    here.show(here.run(lambda connection: _whole(connection, batch, timeout_s=here.timeout_s)), _print_batch)


@app.command("list")
def show_newest(
    ctx: typer.Context,
    device: MaybeDevice = None,
    limit: Annotated[int, typer.Option(help="The newest so many, up to 500.")] = 100,
) -> None:
    """List the newest commands, of all devices or of one."""
    here = session.of(ctx)
    here.show(here.ask(admin.COMMAND_LIST, device=device, limit=limit), _print_newest)


async def _wait(connection: client.Admin, sent: admin.CommandSent, *, timeout_s: float) -> None:
    """Look until no device of a batch is waited for: at the latest when the service says that it has expired."""
    with bars.progress(in_bytes=False) as progress:
        bar = progress.add_task("answers", total=len(sent.commands))
        while True:
            look = client.build(admin.COMMAND_SHOW, batch_id=sent.batch_id, limit=1)
            counts = (await connection.call(admin.COMMAND_SHOW, look, timeout_s=timeout_s)).counts
            progress.update(bar, completed=counts.ok + counts.failed)
            if not counts.waiting:
                return
            await asyncio.sleep(POLL_S)


async def _whole(connection: client.Admin, batch_id: UUID, *, timeout_s: float) -> admin.CommandBatch:
    """Return a batch with all of its devices."""
    request = client.build(admin.COMMAND_SHOW, batch_id=batch_id)
    return await pages.collect(connection, admin.COMMAND_SHOW, request, "commands", timeout_s=timeout_s)


def _print_sent(sent: admin.CommandSent) -> None:
    tables.print_facts({"batch": sent.batch_id, "devices": len(sent.commands), "expires": sent.expires_at})


def _print_batch(batch: admin.CommandBatch) -> None:
    tables.print_table(
        ("DEVICE", "OUTCOME", "RESULT"), ((it.client_id, it.outcome, _answer(it)) for it in batch.commands)
    )


def _print_newest(found: admin.Commands) -> None:
    if not found.commands:
        output.print_note("no commands yet; `mdm command send NAME --device DEVICE` sends one")
        return
    tables.print_table(
        ("DEVICE", "COMMAND", "ARGUMENTS", "BY", "AT", "OUTCOME", "RESULT", "BATCH"),
        (
            (it.client_id, it.name, it.arguments, it.author, it.created_at, it.outcome, _answer(it), it.batch_id)
            for it in found.commands
        ),
    )


def _answer(command: admin.CommandView) -> object:
    return command.result if command.error is None else command.error
