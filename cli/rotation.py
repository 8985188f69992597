"""`mdm rotation`: new secrets for devices, started, watched, called off and looked up."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from cli import bars, client, output, pages, schedule, session, tables
from cli.arguments import Device, MaybeDevice
from shared.protocol import admin

app = typer.Typer()
app.command("schedule")(schedule.show_schedule)

POLL_S: Final = 0.5
"""Between two looks while rotations are watched."""


@app.command("start")
def start(
    ctx: typer.Context,
    device: MaybeDevice = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="All devices that are enabled, or all that fit --tag and --model.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Devices of this model.")] = None,
) -> None:
    """Queue one device, or many, for a rotation of the secret."""
    here = session.of(ctx)
    here.show(here.ask(admin.ROTATION_START, device=device, all=everything, tag=tag, model=model), _print_queued)


@app.command("status")
def status(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait until no device is queued or under way, and show how it goes.")
    ] = False,
) -> None:
    """Show how many devices stand how, and what is under way.

    With `--watch` the status is 1 if there are devices in TIMEOUT at the end; those are tried again later.
    """
    here = session.of(ctx)

    async def work(connection: client.Admin) -> admin.RotationOverview:
        if watch:
            await _wait(connection, timeout_s=here.timeout_s)
        request = client.build(admin.ROTATION_STATUS)
        return await pages.collect(
            connection, admin.ROTATION_STATUS, request, "under_way", timeout_s=here.timeout_s
        )

    found = here.run(work)
    here.show(found, _print_overview)
    if watch and found.counts.timeout:
        raise typer.Exit(1)


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    device: MaybeDevice = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every rotation there is.")] = False,
) -> None:
    """Call off rotations that are queued, under way, or to be tried again.

    One that is under way ends by itself, soon: with the old secret, or completed if its device has logged in.
    """
    here = session.of(ctx)
    here.show(here.ask(admin.ROTATION_CANCEL, device=device, all=everything), _print_cancelled)


@app.command("history")
def history(
    ctx: typer.Context,
    device: Device,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
) -> None:
    """List the rotations of a device, newest first."""
    here = session.of(ctx)
    here.show(here.ask_pages(admin.ROTATION_HISTORY, "rotations", limit=limit, device=device), _print_history)


async def _wait(connection: client.Admin, *, timeout_s: float) -> None:
    """Look until no device is queued or under way."""
    total = 0
    with bars.progress(in_bytes=False) as progress:
        bar = progress.add_task("rotations", total=None)
        while True:
            look = client.build(admin.ROTATION_STATUS, limit=1)
            counts = (await connection.call(admin.ROTATION_STATUS, look, timeout_s=timeout_s)).counts
            left = counts.queued + counts.pending
            total = max(total, left)
            progress.update(bar, total=total, completed=total - left)
            if not left:
                return
            await asyncio.sleep(POLL_S)


def _print_queued(result: admin.RotationQueued) -> None:
    _print_named(
        (result.queued, "queued"),
        (result.already, "already queued or under way"),
        (result.ending, "not queued: its cancelled rotation has not ended yet, start it again soon"),
        (result.skipped, "skipped, as it is disabled"),
    )


def _print_cancelled(result: admin.RotationsCancelled) -> None:
    if not (result.dequeued.count or result.not_retried.count or result.ending.count):
        output.print_note("nothing to cancel")
        return
    _print_named(
        (result.dequeued, "cancelled before it began"),
        (result.not_retried, "not tried again"),
        (result.ending, "under way: ends soon, and is not tried again"),
    )


def _print_named(*groups: tuple[admin.Named, str]) -> None:
    tables.print_table(("DEVICE", "ROTATION"), ((name, said) for named, said in groups for name in named.names))
    for named, said in groups:
        if named.count > len(named.names):
            output.print_note(f"and {named.count - len(named.names)} more: {said}")


def _print_overview(found: admin.RotationOverview) -> None:
    counts = found.counts
    tables.print_facts(
        {"OK": counts.ok, "QUEUED": counts.queued, "PENDING": counts.pending, "TIMEOUT": counts.timeout}
    )
    if found.under_way:
        tables.print_table(
            ("DEVICE", "STEP", "SECONDS LEFT", "SLOT", "SINCE", "ROTATION"),
            (
                (
                    it.client_id,
                    it.step,
                    "cancelled" if it.cancelled else it.left_s,
                    it.slot,
                    it.started_at,
                    it.rotation_id,
                )
                for it in found.under_way
            ),
        )


def _print_history(found: admin.Rotations) -> None:
    if not found.rotations:
        output.print_note(f"{found.client_id} has had no rotation; `mdm rotation start` begins one")
        return
    tables.print_table(
        (
            *("ROTATION", "GENERATION", "STARTED", "OUTCOME", "DELIVERED", "STORED", "SWITCHED", "ENDED"),
            *("SECONDS", "REFUSED PROOFS"),
        ),
        (
            (
                it.rotation_id,
                it.generation,
                it.started_at,
                it.outcome or f"under way: {it.step}",
                it.delivered_at,
                it.stored_at,
                it.switched_at,
                it.ended_at,
                None if it.duration_s is None else f"{it.duration_s:.1f}",
                it.refused_proofs,
            )
            for it in found.rotations
        ),
    )
