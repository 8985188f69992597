"""`mdm rotation`: rotations of device secrets: start, watch, cancel, history."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from cli import bars, client, output, pages, schedule, selection, session, tables
from cli.arguments import Device, MaybeDevice
from shared.errors import InvalidInputError
from shared.protocol import admin

app = typer.Typer()
app.add_typer(schedule.app, name="schedule")

POLL_S: Final = 0.5
"""Between two polls while rotations are watched."""


@app.command("start")
def start(
    ctx: typer.Context,
    device: MaybeDevice = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="All enabled devices, or all that match --tag and --model.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Devices of this model.")] = None,
    dry_run: selection.DryRun = False,
    yes: selection.Yes = False,
) -> None:
    """Queue one or more devices for a rotation of the secret."""
    selection.check(device, everything=everything, tag=tag, model=model, one="DEVICE")
    here = session.of(ctx)
    if device is None:
        found = [it for it in selection.find(here, tag=tag, model=model) if it.enabled]
        selection.confirm(here, "rotate the secret of", found, yes=yes, dry_run=dry_run)
    elif dry_run:
        selection.confirm(
            here, "rotate the secret of", [here.request(admin.DEVICE_SHOW, device=device)], yes=yes, dry_run=True
        )
    here.show(
        here.request(admin.ROTATION_START, device=device, all=everything, tag=tag, model=model), _print_queued
    )


@app.command("status")
def status(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Show progress until no device is queued or in progress; offline ones are not waited for.",
        ),
    ] = False,
) -> None:
    """Show the devices by state, and the rotations in progress.

    With `--watch` the exit status is 1 if devices are in TIMEOUT at the end; their rotations are retried later.
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
    everything: Annotated[bool, typer.Option("--all", help="All rotations.")] = False,
) -> None:
    """Cancel rotations.

    This applies to rotations that are queued, in progress or waiting for a retry. A rotation in progress ends
    soon: with the old secret, or with the new one if the device has logged in with it.
    """
    if (device is None) != everything:
        raise InvalidInputError("expected either DEVICE or --all")
    here = session.of(ctx)
    here.show(here.request(admin.ROTATION_CANCEL, device=device, all=everything), _print_cancelled)


@app.command("history")
def history(
    ctx: typer.Context,
    device: Device,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rotations.")] = 100,
) -> None:
    """List the rotations of a device, newest first."""
    here = session.of(ctx)
    found = here.request_pages(admin.ROTATION_HISTORY, "rotations", limit=limit, device=device)
    here.show_table(
        found,
        found.rotations,
        (
            "generation, started=started_at",
            ("outcome", lambda it: it.outcome or f"in progress: {it.step}"),
            "--delivered=delivered_at, --stored=stored_at, --switched=switched_at, -ended=ended_at",
            ("seconds", lambda it: None if it.duration_s is None else f"{it.duration_s:.1f}"),
            "refused_proofs, ---rotation=rotation_id",
        ),
        none=f"{found.client_id} has no rotations yet; `mdm rotation start` starts one",
    )


async def _wait(connection: client.Admin, *, timeout_s: float) -> None:
    """Poll until no device is queued or in progress, apart from those that are offline."""
    total = 0
    with bars.progress(in_bytes=False) as progress:
        bar = progress.add_task("rotations", total=None)
        while True:
            look = client.build(admin.ROTATION_STATUS, limit=1)
            found = await connection.call(admin.ROTATION_STATUS, look, timeout_s=timeout_s)
            left = found.counts.queued - found.offline + found.counts.pending
            total = max(total, left)
            progress.update(bar, total=total, completed=total - left)
            if not left:
                return
            await asyncio.sleep(POLL_S)


def _print_queued(result: admin.RotationQueued) -> None:
    _print_named(
        (result.queued, "queued"),
        (result.already, "already queued or in progress"),
        (result.ending, "not queued: its cancelled rotation has not ended yet, retry soon"),
        (result.skipped, "skipped: device is disabled"),
    )
    if result.waiting.count:
        output.print_note(
            f"not online: {result.waiting.count} of the queued; a new secret is offered on connection"
        )


def _print_cancelled(result: admin.RotationsCancelled) -> None:
    if not (result.dequeued.count or result.not_retried.count or result.ending.count):
        output.print_note("nothing to cancel")
        return
    _print_named(
        (result.dequeued, "cancelled before it started"),
        (result.not_retried, "will not be retried"),
        (result.ending, "in progress: ends soon, will not be retried"),
    )


def _print_named(*groups: tuple[admin.Named, str]) -> None:
    rows = [(name, state) for named, state in groups for name in named.names]
    tables.print_table(rows, (("device", lambda it: it[0]), ("rotation", lambda it: it[1])))
    for named, state in groups:
        if named.count > len(named.names):
            output.print_note(f"and {named.count - len(named.names)} more: {state}")


def _print_overview(found: admin.RotationOverview) -> None:
    tables.print_facts(found.counts, "OK=ok, QUEUED=queued, PENDING=pending, TIMEOUT=timeout")
    if found.asleep or found.offline:
        output.print_text(f"Of the queued, {found.asleep} are asleep and {found.offline} offline.")
    tables.print_table_below(
        found.under_way,
        (
            "device=client_id, step",
            ("seconds left", lambda it: "cancelled" if it.cancelled else it.left_s),
            "-slot, since=started_at, --rotation=rotation_id",
        ),
    )
