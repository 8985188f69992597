"""`mdm notification`: rules on what happens, and their messages to webhooks and people."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Final

import typer

from cli import client, durations, output, session, tables
from shared.errors import FleetError
from shared.protocol import admin

app = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the rule.")]
_CONDITIONS: Final = (
    "What to be notified of: silent, share_silent, unhealthy, critical, core_dump or secret_old, of devices; "
    "rollout_halted, claim_waits or certificate_ends."
)
_PAUSE_S: Final = 0.5
_WAITS_S: Final = 30


class NotDeliveredError(FleetError):
    """The receiver has not taken a test."""

    code = "not_delivered"


@app.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the rule; a-z, 0-9, - and _.")],
    *,
    condition: Annotated[str, typer.Option(help=_CONDITIONS)],
    url: Annotated[
        str,
        typer.Option(
            help="Where to: http(s):// is a webhook, anything else is Apprise's, as mailto:// or ntfy://."
        ),
    ],
    hold_s: Annotated[
        str,
        typer.Option(
            "--hold",
            metavar="TIME",
            help="Time for which the condition must hold, or be over, before that is reported: 30s, 15m.",
        ),
    ] = "10m",
    device: Annotated[str | None, typer.Option(help="Only of this device.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only of devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of devices of this model.")] = None,
    percent: Annotated[
        int, typer.Option(min=1, max=100, help="For share_silent: the share that is offline.")
    ] = 20,
    older_than_s: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="For secret_old: the age of the secret.")
    ] = "180d",
) -> None:
    """Add a rule.

    The messages of a webhook are signed as in Standard Webhooks, with the key that is shown once. The URL is
    stored encrypted, and not shown again.
    """
    here = session.of(ctx)
    hold = 0 if hold_s in {"0", "0s"} else durations.seconds(hold_s, field="hold_s")
    added = here.request(
        admin.NOTIFICATION_ADD,
        name=name,
        condition=condition,
        url=url,
        hold_s=hold,
        device=device,
        tag=tag,
        model=model,
        percent=percent,
        older_than_s=durations.seconds(older_than_s, field="older_than_s"),
    )
    here.show(added, _print_added)


@app.command("list")
def show_all(ctx: typer.Context) -> None:
    """List the rules."""
    here = session.of(ctx)
    found = here.request(admin.NOTIFICATION_LIST)
    here.show_table(
        found,
        found.rules,
        (
            "rule=name, condition",
            ("of", _selection),
            "firing, waiting, target",
            ("-hold", lambda it: f"{it.hold_s} s"),
            "-last error=last_error, --by=author",
        ),
        none="no rules yet; `mdm notification add` adds one",
    )


@app.command("remove")
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a rule, and its messages."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.NOTIFICATION_REMOVE, name=name))


@app.command("test")
def test(ctx: typer.Context, name: Name) -> None:
    """Send a test message by a rule, and wait for its delivery."""
    here = session.of(ctx)
    queued = here.request(admin.NOTIFICATION_TEST, name=name)
    found = here.run(partial(_delivered, name, queued))
    here.show(found, lambda _: tables.print_facts(found, "rule, delivery, attempts"))
    if found.delivery != "delivered":
        raise NotDeliveredError(
            f"the test is not delivered yet: {found.error or 'others of the rule wait before it'}"
        )


@app.command("history")
def history(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only messages of this rule.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Number of messages.")] = 100,
) -> None:
    """List the newest messages, and whether they were delivered."""
    here = session.of(ctx)
    found = here.request(admin.NOTIFICATION_HISTORY, name=name, limit=limit)
    here.show_table(
        found,
        found.notifications,
        "at=created_at, rule, state, delivery, text, -attempts, -error, --id",
        none="no messages yet; `mdm notification test NAME` sends one",
    )


def _print_added(added: admin.NotificationRuleAdded) -> None:
    tables.print_facts(added, "rule=name, target, key")
    if added.key is not None:
        output.print_note("the key is not shown again; the receiver checks signatures with it")


def _selection(rule: admin.NotificationRuleView) -> str:
    if rule.condition not in admin.OF_DEVICES:
        return ""
    named = (("device", rule.device), ("tag", rule.tag), ("model", rule.model))
    chosen = ", ".join(f"{kind} {name}" for kind, name in named if name is not None) or "all devices"
    return f"{rule.percent} % of {chosen}" if rule.condition == "share_silent" else chosen


async def _delivered(
    name: str, queued: admin.NotificationQueued, connection: client.Admin
) -> admin.NotificationView:
    """Return the message of a test once it is delivered or refused, or as it is after some time."""
    request = client.build(admin.NOTIFICATION_HISTORY, name=name, limit=500)
    for _ in range(int(_WAITS_S / _PAUSE_S)):
        answer = await connection.call(admin.NOTIFICATION_HISTORY, request, timeout_s=_WAITS_S)
        [found] = [it for it in answer.notifications if it.id == queued.id]
        if found.delivery != "waiting" or found.error is not None:
            return found
        await asyncio.sleep(_PAUSE_S)
    return found
