"""`mdm rollout`: rollouts of firmware in waves: preflight, start, watch, pause, abort."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, TypeVar

import typer

from cli import audit, bars, client, durations, output, selection, session, tables
from shared.errors import InvalidInputError, NotFoundError
from shared.protocol import admin

app = typer.Typer()

R = TypeVar("R", bound="admin.Request")
A = TypeVar("A", bound="admin.Result")
POLL_S: Final = 1.0
"""Between two polls while a rollout is watched."""
_NAMED: Final = 20
Model = Annotated[str, typer.Argument(help="Code of the model.")]
Version = Annotated[str, typer.Argument(help="Version of an image of this model.")]
Id = Annotated[int, typer.Argument(metavar="ROLLOUT", help="Number of the rollout.")]
MaybeTags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Only devices with this tag; if repeated, with all of these tags."),
]
Percent = Annotated[int, typer.Option(metavar="N", help="Percentage of these devices to include.")]


@app.command("preflight")
def preflight(
    ctx: typer.Context, model: Model, version: Version, *, tags: MaybeTags = None, percent: Percent = 100
) -> None:
    """Show which devices would not accept an image, and why.

    The exit status is 1 if there are devices that would not.
    """
    here = session.of(ctx)
    found = _of_devices(here, admin.ROLLOUT_PREFLIGHT, model=model, version=version, tags=tags, percent=percent)
    here.show(found, _print_findings)
    if found.count:
        raise typer.Exit(1)


@app.command("start")
def start(
    ctx: typer.Context,
    model: Model,
    version: Version,
    *,
    tags: MaybeTags = None,
    percent: Percent = 100,
    waves: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Devices reached with each wave; the default is 1,10%,50%,100%."),
    ] = None,
    success_percent: Annotated[
        str | None,
        typer.Option(
            "--success", metavar="PERCENT", help="Share of a wave that must confirm the image; the default is 95%."
        ),
    ] = None,
    failure_limit: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Failures in a wave that do not halt the rollout yet, as 3; the default is 5%.",
        ),
    ] = None,
    soak_s: Annotated[
        str | None,
        typer.Option(
            "--soak", metavar="TIME", help="Waiting time after a met wave before the next one; the default is 15m."
        ),
    ] = None,
    silence_s: Annotated[
        str | None,
        typer.Option(
            "--silence",
            metavar="TIME",
            help="Maximum time from accepting the image to its confirmation; the default is 30m.",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="FROM-TO", help="Time of day for offers, as 02:00-05:00; the default is any."),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of the window; the default is UTC.")] = None,
    max_under_way: Annotated[
        int | None,
        typer.Option("--at-once", metavar="N", help="Devices in progress at most; the default is 50."),
    ] = None,
    offers_per_minute: Annotated[
        int | None,
        typer.Option("--per-minute", metavar="N", help="New offers per minute at most; the default is 60."),
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Skip the devices that would fail.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Include the devices that would fail.")] = False,
) -> None:
    """Start a rollout to a model's devices.

    This is refused if some of them would fail: see `mdm rollout preflight`, `--skip` and `--force`.
    """
    if skip and force:
        raise InvalidInputError("expected either --skip or --force")
    here = session.of(ctx)
    plan = {
        "waves": waves.split(",") if waves is not None else None,
        "success_percent": _percent(success_percent),
        "failure_limit": failure_limit,
        "soak_s": _seconds(soak_s, "soak_s"),
        "silence_s": _seconds(silence_s, "silence_s"),
        "window": window,
        "zone": zone,
        "max_under_way": max_under_way,
        "offers_per_minute": offers_per_minute,
    }
    _show(
        here,
        _of_devices(
            here,
            admin.ROLLOUT_START,
            model=model,
            version=version,
            tags=tags,
            percent=percent,
            plan={name: value for name, value in plan.items() if value is not None},
            skip=skip,
            force=force,
        ),
    )


@app.command("status")
def status(
    ctx: typer.Context,
    rollout: Annotated[
        int | None, typer.Argument(metavar="[ROLLOUT]", help="Number of the rollout; the default is the newest.")
    ] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show progress until the rollout is no longer running.")
    ] = False,
) -> None:
    """Show the status of a rollout.

    With `--watch` the exit status is 1 unless it completed.
    """
    here = session.of(ctx)

    async def work(connection: client.Admin) -> admin.RolloutStatus:
        request = client.build(admin.ROLLOUT_STATUS, rollout=rollout)
        return await _wait(connection, request, timeout_s=here.timeout_s)

    found = here.run(work) if watch else here.request(admin.ROLLOUT_STATUS, rollout=rollout)
    _show(here, found)
    if watch and found.state != "COMPLETED":
        raise typer.Exit(1)


@app.command("pause")
def pause(ctx: typer.Context, rollout: Id) -> None:
    """Pause a rollout.

    No offers are made until it is resumed. Devices in progress may finish.
    """
    here = session.of(ctx)
    _show(here, here.request(admin.ROLLOUT_PAUSE, rollout=rollout))


@app.command("resume")
def resume(ctx: typer.Context, rollout: Id) -> None:
    """Resume a paused or halted rollout.

    The failures that halted it no longer count.
    """
    here = session.of(ctx)
    _show(here, here.request(admin.ROLLOUT_RESUME, rollout=rollout))


@app.command("abort")
def abort(
    ctx: typer.Context,
    rollout: Id,
    *,
    hard: Annotated[bool, typer.Option("--hard", help="Also stop devices in progress.")] = False,
) -> None:
    """Abort a rollout permanently.

    Devices that have confirmed the image keep it.
    """
    here = session.of(ctx)
    _show(here, here.request(admin.ROLLOUT_ABORT, rollout=rollout, hard=hard))


@app.command("history")
def history(ctx: typer.Context, rollout: Id) -> None:
    """Show the audit log of a rollout, newest first.

    Its automatic actions are by `rollout`.
    """
    audit.show(ctx, subject=f"rollout/{rollout}", limit=500)


@app.command("list")
def show_all(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of rollouts.")] = 100,
) -> None:
    """List the rollouts, newest first."""
    here = session.of(ctx)
    found = here.request(admin.ROLLOUT_LIST, limit=limit)
    here.show_table(
        found,
        found.rollouts,
        (
            "rollout, model, version, state",
            ("wave", lambda it: f"{it.wave} of {it.waves}"),
            "started=created_at, --by=author, -ended=ended_at",
        ),
        none="no rollouts yet; `mdm rollout start MODEL VERSION` starts one",
    )


async def _wait(connection: client.Admin, request: admin.RolloutShow, *, timeout_s: float) -> admin.RolloutStatus:
    """Poll until the rollout is no longer running."""
    with bars.progress(in_bytes=False) as progress:
        bar = progress.add_task("rollout", total=None)
        while True:
            found = await connection.call(admin.ROLLOUT_STATUS, request, timeout_s=timeout_s)
            waves = [wave for wave in found.counts if wave.wave]
            total = sum(wave.devices - wave.counts.skipped for wave in waves)
            done = sum(wave.counts.confirmed for wave in waves)
            progress.update(bar, total=total, completed=done, description=f"wave {found.wave}/{found.waves}")
            if found.state != "RUNNING":
                return found
            # The newest may be another one at the next poll.
            request = client.build(admin.ROLLOUT_STATUS, rollout=found.rollout)
            await asyncio.sleep(POLL_S)


def _of_devices(
    here: session.Session, operation: admin.Operation[R, A], *, tags: list[str] | None, **fields: object
) -> A:
    """Send a request about the devices with all tags; if there are none, raise an error that names the tag."""
    try:
        return here.request(operation, tags=tags, **fields)
    except client.AnswerError as error:
        if error.answer_code == NotFoundError.code and tags:
            here.run(lambda connection: selection.check_filters(connection, tags=tags, timeout_s=here.timeout_s))
        raise


def _percent(text: str | None) -> int | None:
    if text is None:
        return None
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit()):
        raise InvalidInputError("--success: must be a whole percentage, such as 95%")
    return int(number)


def _seconds(text: str | None, field: str) -> int | None:
    return None if text is None else durations.seconds(text, field=field)


def _show(here: session.Session, found: admin.RolloutStatus) -> None:
    here.show(found, _print_status)


def _print_findings(found: admin.RolloutFindings) -> None:
    tables.print_facts(
        found,
        (
            "model, version, would accept it=fit, run it already=already.count, would fail=count",
            "never seen=never_seen, waves by default=waves",
        ),
    )
    tables.print_table_below(found.problems, "device=client_id, why=reason")
    _print_rest(found.count, len(found.problems))


def _print_status(found: admin.RolloutStatus) -> None:
    tables.print_facts(
        found,
        (
            "rollout, model, version, state, doing",
            ("wave", lambda it: f"{it.wave} of {it.waves}"),
            "tags, percent, started=created_at, by=author",
        ),
    )
    tables.print_table_below(
        found.counts,
        (
            ("wave", lambda it: it.wave or "before"),
            "devices, --waiting=counts.waiting",
            ("-in progress", lambda it: it.counts.offered + it.counts.taken),
            "confirmed=counts.confirmed, failed=counts.failed, rolled back=counts.rolled_back",
            "silent=counts.silent, -skipped=counts.skipped",
        ),
    )
    tables.print_table_below(found.failures[:_NAMED], "device=client_id, --wave, -state, --at, why=reason")
    _print_rest(found.failure_count, min(_NAMED, len(found.failures)))


def _print_rest(count: int, named: int) -> None:
    if count > named:
        output.print_note(f"and {count - named} more")
