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
        tables.print_facts({"claim": added.claim, "expires": added.expires_at, "package": str(target)})


@app.command("list")
def show_all(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that are revoked or expired too.")] = False,
) -> None:
    """List the claims, newest first."""
    here = session.of(ctx)
    found = here.ask(admin.CLAIM_LIST, all=everything)
    if here.as_json:
        output.print_json(found)
    elif not found.claims:
        output.print_note("no claims yet; `mdm claim create --model MODEL --output FILE` makes one")
    else:
        tables.print_table(
            ("CLAIM", "MODEL", "TAGS", "STATE", "USED", "WAITING", "APPROVAL", "EXPIRES", "BY"),
            (
                (
                    it.claim,
                    it.model,
                    it.tags,
                    it.state,
                    f"{it.used} of {it.uses}",
                    it.waiting,
                    it.needs_approval,
                    it.expires_at,
                    it.author,
                )
                for it in found.claims
            ),
        )


@app.command("revoke")
def revoke(ctx: typer.Context, claim: Claim) -> None:
    """Refuse a claim from now on; devices that came by it stay."""
    here = session.of(ctx)
    here.show(here.ask(admin.CLAIM_REVOKE, claim=claim), tables.print_result)


@app.command("requests")
def requests(
    ctx: typer.Context,
    claim: Annotated[str | None, typer.Argument(metavar="[CLAIM]", help="Only of this claim.")] = None,
    *,
    state: Annotated[str | None, typer.Option(help="Only in this state: pending, granted, denied.")] = None,
) -> None:
    """List the machines that asked for an identity."""
    here = session.of(ctx)
    here.show(here.ask_pages(admin.CLAIM_REQUESTS, "requests", claim=claim, state=state), _print_requests)


def _print_requests(found: admin.ClaimRequestViews) -> None:
    if not found.requests:
        output.print_note("no machine has asked yet; `mdm claim create --model MODEL --output FILE` lets some ask")
    else:
        tables.print_table(
            ("UID", "STATE", "CLAIM", "MODEL", "DEVICE", "ASKED", "GRANTED"),
            (
                (it.uid, it.state, it.claim, it.model, it.client_id, it.requested_at, it.granted_at)
                for it in found.requests
            ),
        )


@app.command("approve")
def approve(ctx: typer.Context, uid: Uid) -> None:
    """Make the device of a machine that waits or was denied, and send it its identity."""
    here = session.of(ctx)
    here.show(here.ask(admin.CLAIM_APPROVE, uid=uid), tables.print_result)


@app.command("deny")
def deny(ctx: typer.Context, uid: Uid) -> None:
    """Refuse a machine that waits, until it is approved or forgotten."""
    here = session.of(ctx)
    here.show(here.ask(admin.CLAIM_DENY, uid=uid), tables.print_result)


@app.command("forget")
def forget(ctx: typer.Context, uid: Uid) -> None:
    """Let a machine that has no device ask anew, with another key if it likes."""
    here = session.of(ctx)
    here.show(here.ask(admin.CLAIM_FORGET, uid=uid), tables.print_result)
