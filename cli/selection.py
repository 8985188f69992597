"""Operations on many devices: which ones, how many, and whether that is meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Annotated, Final

import typer

from cli import client, lifecycle, output, pages, session, tables
from shared.errors import InvalidInputError, NotFoundError
from shared.protocol import admin

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = lifecycle.Yes
_NAMED: Final = 10


def check(
    device: str | None, *, everything: bool, tag: str | None = None, model: str | None = None, one: str
) -> None:
    """Raise InvalidInputError unless either one device or many are selected."""
    if (device is None) != (everything or tag is not None or model is not None):
        raise InvalidInputError(f"expected either {one}, or at least one of --all, --tag and --model")


def find(here: session.Session, *, tag: str | None = None, model: str | None = None) -> list[admin.DeviceView]:
    """Return the selected devices; raise NotFoundError for a filter that fits none."""

    async def work(connection: client.Admin) -> list[admin.DeviceView]:
        request = client.build(admin.DEVICE_LIST, tag=tag, model=model)
        found = await pages.collect(connection, admin.DEVICE_LIST, request, "devices", timeout_s=here.timeout_s)
        if not found.devices:
            await check_filters(connection, model=model, tags=[tag] if tag else (), timeout_s=here.timeout_s)
        return found.devices

    return here.run(work)


async def check_filters(
    connection: client.Admin, *, model: str | None = None, tags: Collection[str] = (), timeout_s: float
) -> None:
    """Raise NotFoundError naming the model that does not exist, or the tag that no device has."""
    if model is not None:
        request = client.build(admin.MODEL_LIST)
        models = (await connection.call(admin.MODEL_LIST, request, timeout_s=timeout_s)).models
        codes = [it.code for it in models]
        if model not in codes:
            raise NotFoundError(f"there is no model {model}{_instead(model, codes)}", model=model)
    if tags:
        devices = client.build(admin.DEVICE_LIST)
        found = await pages.collect(connection, admin.DEVICE_LIST, devices, "devices", timeout_s=timeout_s)
        known = sorted({tag for device in found.devices for tag in device.tags})
        for tag in tags:
            if tag not in known:
                raise NotFoundError(f"no device has the tag {tag}{_instead(tag, known)}")


def _instead(name: str, known: Sequence[str]) -> str:
    """Return what may be meant: similar names, or else the first of all."""
    near = get_close_matches(name, known)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    more = ", ..." if len(known) > _NAMED else ""
    return f"; there are {', '.join(known[:_NAMED])}{more}" if known else ""


def confirm(
    here: session.Session,
    doing: str,
    devices: Sequence[admin.DeviceView],
    *,
    yes: bool,
    dry_run: bool,
) -> None:
    """Ask on the terminal before something is done to several devices; end here for a dry run."""
    offline = sum(not it.online for it in devices)
    count = f"{len(devices)} {'device' if len(devices) == 1 else 'devices'}"
    of_them = f", {offline} of them offline" if offline else ""
    if dry_run:
        end_dry_run(here, f"would {doing} {count}{of_them}", devices)
    if len(devices) > 1:
        lifecycle.confirm(f"{doing} {count}{of_them}?", yes=yes)


def end_dry_run(here: session.Session, text: str, devices: Sequence[admin.DeviceView]) -> None:
    """Print what would have been done to which devices, and end."""
    if here.as_json:
        output.print_json({"dry_run": text, "devices": [it.client_id for it in devices]})
    else:
        tables.print_table(devices, "device=client_id, name, online, -model, -tags")
        output.print_note(text)
    raise typer.Exit
