"""`mdm config`: desired versions and history of configurations."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Annotated, Final

import typer

from cli import bars, client, documents, layers, output, session, tables
from cli.arguments import Assignments, Device, Document, Secrets
from shared.protocol import admin

app = typer.Typer()
app.add_typer(layers.app, name="layer")

POLL_S: Final = 0.5
"""Between two looks for the report of a device."""
WAIT_S: Final = 60.0


@app.command("set")
def set_config(
    ctx: typer.Context,
    device: Device,
    assignments: Assignments = None,
    file: Document = None,
    *,
    secret: Secrets = None,
    trial_seconds: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trial: the device reverts unless it reconnects and reports within this time."
        ),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option("--expect", metavar="VERSION", help="Refuse the change unless this is the desired version."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the device has reported the result, for a minute at most.")
    ] = False,
) -> None:
    """Change the overrides of a device.

    Overrides take precedence over the device's layers and its model's defaults. KEY=VALUE changes one key, and
    KEY=null removes an override; a file replaces all overrides. A placeholder such as (sealed 3f9c2a71b04e) keeps
    the secret for which it stands. With --wait the exit status is 1 unless the device has applied the
    configuration.
    """
    overrides = documents.given(assignments, file, secret)
    here = session.of(ctx)
    result = here.request(
        admin.CONFIG_SET,
        device=device,
        overrides=overrides,
        replace=file is not None,
        trial_seconds=trial_seconds,
        expected_version=expected_version,
    )
    here.show(result, _print_set)
    if wait:
        _wait(here, result, limit_s=WAIT_S + (trial_seconds or 0))


@app.command("get")
def get(
    ctx: typer.Context,
    device: Device,
    version: Annotated[int | None, typer.Option(help="Version, from `mdm config history`.")] = None,
) -> None:
    """Show the configuration of a device.

    The default is the desired version.
    """
    here = session.of(ctx)
    here.show_facts(
        here.request(admin.CONFIG_GET, device=device, version=version),
        (
            "device=client_id, version, by=author, at=created_at",
            ("trial", _trial),
            "overrides, document, desired",
            ("reported", _reported),
        ),
    )


@app.command("history")
def history(
    ctx: typer.Context,
    device: Device,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of versions.")] = 100,
) -> None:
    """List the versions of a device's configuration, newest first."""
    here = session.of(ctx)
    found = here.request_pages(admin.CONFIG_HISTORY, "versions", limit=limit, device=device)
    desired = found.desired
    here.show_table(
        found,
        found.versions,
        (
            ("version", lambda it: f"{it.version} *" if it.version == desired else it.version),
            "-by=author, at=created_at",
            ("---trial", _trial),
            "reported=outcome, --when=reported_at",
        ),
    )


@app.command("diff")
def diff(
    ctx: typer.Context,
    device: Device,
    from_version: Annotated[
        int | None,
        typer.Argument(
            metavar="[FROM]", help="Version to compare; the default is the one before TO. 0 is the empty one."
        ),
    ] = None,
    to_version: Annotated[
        int | None, typer.Argument(metavar="[TO]", help="Version to compare with; the default is the desired one.")
    ] = None,
) -> None:
    """Show the differences between two versions."""
    here = session.of(ctx)
    here.show(
        here.request(admin.CONFIG_DIFF, device=device, from_version=from_version, to_version=to_version),
        _print_changes,
    )


def _print_changes(found: admin.ConfigChanges) -> None:
    if not found.changes:
        output.print_note(f"no differences between versions {found.from_version} and {found.to_version}")
        return
    tables.print_table(
        found.changes,
        (
            ("path", lambda it: ".".join(it.path)),
            "change=kind",
            (f"version {found.from_version}", lambda it: _value(it.before, absent=it.kind == "added")),
            (f"version {found.to_version}", lambda it: _value(it.after, absent=it.kind == "removed")),
        ),
    )


@app.command("rollback")
def rollback(
    ctx: typer.Context,
    device: Device,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Version, from `mdm config history`.")],
) -> None:
    """Restore the overrides of an old version, as a new version."""
    here = session.of(ctx)
    here.show(here.request(admin.CONFIG_ROLLBACK, device=device, version=version), _print_set)


def _print_set(result: admin.ConfigSetResult) -> None:
    state = "new" if result.changed else "unchanged"
    tables.print_facts(result, ("device=client_id", ("version", lambda it: f"{it.version} ({state})"), "document"))


def _wait(here: session.Session, wanted: admin.ConfigSetResult, *, limit_s: float) -> None:
    """Wait for the device's report on a version; raise Exit unless it has applied it."""

    async def work(connection: client.Admin) -> str | None:
        show = client.build(admin.DEVICE_SHOW, device=wanted.client_id)
        device = await connection.call(admin.DEVICE_SHOW, show, timeout_s=here.timeout_s)
        if not device.online:
            since = "" if device.last_seen_at is None else f" since {output.cell(device.last_seen_at)}"
            output.print_note(f"the device is offline{since}: it gets version {wanted.version} when it connects")
            return None
        with contextlib.suppress(TimeoutError), bars.progress(in_bytes=False) as bar:
            bar.add_task("waiting for the device", total=None)
            async with asyncio.timeout(limit_s):
                while True:
                    get = client.build(admin.CONFIG_GET, device=wanted.client_id, version=wanted.version)
                    found = await connection.call(admin.CONFIG_GET, get, timeout_s=here.timeout_s)
                    if found.outcome is not None:
                        return found.outcome
                    await asyncio.sleep(POLL_S)
        output.print_note(f"no report within {limit_s:g} s; see `mdm config history {wanted.client_id}`")
        return None

    outcome = here.run(work)
    if outcome is not None:
        output.print_note(f"the device has {outcome} version {wanted.version}")
    if outcome != "applied":
        raise typer.Exit(1)


def _trial(entry: admin.ConfigEntry) -> str | None:
    return None if entry.trial_seconds is None else f"{entry.trial_seconds} s"


def _reported(found: admin.ConfigView) -> str | None:
    return None if found.reported is None else f"{found.reported} {found.reported_outcome or 'unknown'}"


def _value(value: object, *, absent: bool) -> str | None:
    return None if absent else json.dumps(value, ensure_ascii=False)
