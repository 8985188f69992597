"""`mdm claim`: claims, by which machines get an identity without being touched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import durations, output, session, tables
from shared import crypto
from shared.errors import ConflictError
from shared.protocol import admin

app = typer.Typer()

Claim = Annotated[str, typer.Argument(metavar="CLAIM", help="As `mdm claim list` shows it.")]
Uid = Annotated[str, typer.Argument(metavar="UID", help="A machine's MAC address or chip id, in lower-case hex.")]


@app.command("create")
def create(
    ctx: typer.Context,
    *,
    model: Annotated[str, typer.Option(help="The code of the model that its machines are of.")],
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the claim package goes.")],
    tag: Annotated[list[str] | None, typer.Option(help="A tag of its devices; may be repeated.")] = None,
    uses: Annotated[int, typer.Option(min=1, help="So many machines may get an identity.")] = 1,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="After so long it is refused: 30m, 12h, 7d.")
    ] = "1d",
    approval: Annotated[
        bool, typer.Option("--approval", help="Each machine waits for `mdm claim approve`.")
    ] = False,
) -> None:
    """Make a claim and write its package: whoever holds this file may ask for an identity."""
    expires_in_s = durations.seconds(expires, field="expires")
    if target.exists():
        raise ConflictError(f"output: {target} exists; name another file")
    here = session.of(ctx)
    # Made here, so that no service has to keep it for a request that comes twice.
    password = crypto.new_secret().get_secret_value()
    added = here.ask(
        admin.CLAIM_ADD,
        model=model,
        tags=tag,
        uses=uses,
        expires_in_s=expires_in_s,
        needs_approval=approval,
        password=password,
    )
    package = admin.ClaimPackage(
        account=added.claim,
        password=password,
        mqtt_host=added.mqtt_host,
        mqtt_port=added.mqtt_port,
        mqtt_tls=added.mqtt_tls,
        ca_certificate=added.ca_certificate,
        expires_at=added.expires_at,
    )
    output.write_private(target, package.model_dump_json(indent=2) + "\n", replace=False)
    if here.as_json:
        output.print_json({"claim": added.claim, "output": str(target)})
    else:
        tables.print_facts(added, ("claim", "expires=expires_at", ("package", lambda _: target)))


@app.command("list")
def show_all(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that are revoked or expired too.")] = False,
) -> None:
    """List the claims, newest first."""
    here = session.of(ctx)
    found = here.ask(admin.CLAIM_LIST, all=everything)
    here.show_table(
        found,
        found.claims,
        (
            *("claim", "model", "tags", "state", ("used", lambda it: f"{it.used} of {it.uses}")),
            *("waiting", "approval=needs_approval", "expires=expires_at", "by=author"),
        ),
        none="no claims yet; `mdm claim create --model MODEL --output FILE` makes one",
    )


@app.command("revoke")
def revoke(ctx: typer.Context, claim: Claim) -> None:
    """Refuse a claim from now on; devices that came by it stay."""
    here = session.of(ctx)
    here.show_facts(here.ask(admin.CLAIM_REVOKE, claim=claim))


@app.command("requests")
def requests(
    ctx: typer.Context,
    claim: Annotated[str | None, typer.Argument(metavar="[CLAIM]", help="Only of this claim.")] = None,
    *,
    state: Annotated[str | None, typer.Option(help="Only in this state: pending, granted, denied.")] = None,
) -> None:
    """List the machines that asked for an identity."""
    here = session.of(ctx)
    found = here.ask(admin.CLAIM_REQUESTS, claim=claim, state=state)
    machines = list(found.requests)
    while found.next is not None:
        found = here.ask(admin.CLAIM_REQUESTS, claim=claim, state=state, after=found.next)
        machines += found.requests
    here.show_table(
        admin.ClaimRequestViews(requests=machines),
        machines,
        (
            *("uid", "state", "claim", "model", "device=client_id"),
            *("requested=requested_at", "granted=granted_at"),
        ),
        none="no machine has asked yet; `mdm claim create --model MODEL --output FILE` lets some ask",
    )


@app.command("approve")
def approve(ctx: typer.Context, uid: Uid) -> None:
    """Make the device of a machine that waits or was denied, and send it its identity."""
    here = session.of(ctx)
    here.show_facts(here.ask(admin.CLAIM_APPROVE, uid=uid))


@app.command("deny")
def deny(ctx: typer.Context, uid: Uid) -> None:
    """Refuse a machine that waits, until it is approved or forgotten."""
    here = session.of(ctx)
    here.show_facts(here.ask(admin.CLAIM_DENY, uid=uid))


@app.command("forget")
def forget(ctx: typer.Context, uid: Uid) -> None:
    """Let a machine that has no device ask anew, with another key if it likes."""
    here = session.of(ctx)
    here.show_facts(here.ask(admin.CLAIM_FORGET, uid=uid))
