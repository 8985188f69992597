"""`mdm device vitals` and `mdm firmware vitals`: numbers that devices measure of themselves."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from cli import durations, session
from cli.arguments import Device
from shared.protocol import admin

_FEW: Final = 100
Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Only this one, such as heap_free_bytes.", show_default=False),
]
_HELP: Final = "How long ago to begin: 90s, 30m, 12h, 7d."


def of_device(
    ctx: typer.Context,
    device: Device,
    name: Name = None,
    *,
    since_s: Annotated[str, typer.Option("--since", metavar="TIME", help=_HELP)] = "7d",
) -> None:
    """Show the vitals of a device, or how one of them went by the hour."""
    here = session.of(ctx)
    found = here.request(
        admin.VITALS_SHOW, device=device, name=name, since_s=durations.seconds(since_s, field="since_s")
    )
    if name is None:
        here.show_table(
            found,
            found.vitals,
            ("vital=name", ("last", lambda it: number(it.last)), "-at", *_RANGE),
            none="the device has reported none in this time",
        )
    else:
        here.show_table(found, found.points, ("from=at", *_RANGE, "-firmware=version"))


def of_model(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Code of the model.")],
    name: Name = None,
    *,
    since_s: Annotated[str, typer.Option("--since", metavar="TIME", help=_HELP)] = "6h",
) -> None:
    """Compare the vitals of a model by firmware version.

    Each device counts with the mean of its numbers. P5 and P95: 5 and 95 percent of the devices are at most there.
    """
    here = session.of(ctx)
    found = here.request(
        admin.VITALS_COMPARE, model=model, name=name, since_s=durations.seconds(since_s, field="since_s")
    )
    here.show_table(
        found,
        found.vitals,
        (
            "vital=name, firmware=version, devices",
            ("-p5", lambda it: number(it.p5)),
            ("median", lambda it: number(it.median)),
            ("-p95", lambda it: number(it.p95)),
            ("--mean", lambda it: number(it.mean)),
        ),
        none="no device of the model has reported any in this time",
    )


def number(value: float) -> str:
    """Return a number with as many decimals as matter: none of a large or a whole one, else two."""
    return f"{value:.0f}" if float(value).is_integer() or abs(value) >= _FEW else f"{value:.2f}"


_RANGE: Final = (
    ("low", lambda it: number(it.low)),
    ("mean", lambda it: number(it.mean)),
    ("high", lambda it: number(it.high)),
)
