"""`mdm claim`: claims, with which machines request their identity by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import durations, output, package_options, session, tables
from cli.package_options import PackageFormat
from shared import crypto
from shared.errors import ConflictError
from shared.protocol import admin, nvs

app = typer.Typer()

Claim = Annotated[str, typer.Argument(metavar="CLAIM", help="Claim, from `mdm claim list`.")]
Uid = Annotated[
    str,
    typer.Argument(metavar="UID", help="MAC address or chip id of a machine, in lower-case hexadecimal digits."),
]


@app.command("create")
def create(
    ctx: typer.Context,
    *,
    model: Annotated[str, typer.Option(help="Code of the machines' model.")],
    target: Annotated[Path, typer.Option("--output", metavar="FILE", help="File to write the claim package to.")],
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Tag of its devices; may be repeated.")] = None,
    uses: Annotated[int, typer.Option(min=1, help="Maximum number of machines.")] = 1,
    expires_in_s: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="Time after which the claim is refused: 30m, 12h, 7d.")
    ] = "1d",
    needs_approval: Annotated[
        bool, typer.Option("--approval", help="Require `mdm claim approve` for each machine.")
    ] = False,
    form: package_options.Format = PackageFormat.JSON,
    size: package_options.Size = None,
    wifi_ssid: package_options.WifiName = None,
    wifi_password: package_options.WifiPassword = None,
) -> None:
    """Create a claim and write its package.

    The package is a secret: with it, any machine can request an identity.
    """
    lifetime_s = durations.seconds(expires_in_s, field="expires_in_s")
    if target.exists():
        raise ConflictError(f"--output: {target} exists; name another file")
    wanted = package_options.Form(
        target=target, form=form, size=size, wifi_ssid=wifi_ssid, wifi_password=wifi_password
    )
    wifi = wanted.check()
    here = session.of(ctx)
    # Created here, so that no service has to store it for a repeated request.
    password = crypto.new_secret().get_secret_value()
    added = here.request(
        admin.CLAIM_ADD,
        model=model,
        tags=tags,
        uses=uses,
        expires_in_s=lifetime_s,
        needs_approval=needs_approval,
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
    content = wanted.content(package, lambda: nvs.claim_rows(package, wifi))
    output.write_private(target, content, replace=False)
    if here.as_json:
        output.print_json({"claim": added.claim, "output": str(target)})
    else:
        tables.print_facts(added, ("claim, expires=expires_at", ("package", lambda _: target)))


@app.command("list")
def show_all(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Include revoked and expired claims.")] = False,
) -> None:
    """List the claims, newest first."""
    here = session.of(ctx)
    found = here.request(admin.CLAIM_LIST, all=everything)
    here.show_table(
        found,
        found.claims,
        (
            "claim, model, -tags, state",
            ("used", lambda it: f"{it.used} of {it.uses}"),
            "waiting, -approval=needs_approval, expires=expires_at, --by=author",
        ),
        none="no claims yet; `mdm claim create --model MODEL --output FILE` creates one",
    )


@app.command("revoke")
def revoke(ctx: typer.Context, claim: Claim) -> None:
    """Revoke a claim; devices that were added with it remain."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.CLAIM_REVOKE, claim=claim))


@app.command("requests")
def requests(
    ctx: typer.Context,
    claim: Annotated[str | None, typer.Argument(metavar="[CLAIM]", help="Only requests with this claim.")] = None,
    *,
    state: Annotated[
        str | None, typer.Option(help="Only requests in this state: pending, granted, denied.")
    ] = None,
) -> None:
    """List the machines that have requested an identity."""
    here = session.of(ctx)
    found = here.request_pages(admin.CLAIM_REQUESTS, "requests", claim=claim, state=state)
    here.show_table(
        found,
        found.requests,
        "uid, state, -claim, --model, device=client_id, requested=requested_at, -granted=granted_at",
        none="no requests yet; `mdm claim create --model MODEL --output FILE` writes the package for machines",
    )


@app.command("approve")
def approve(ctx: typer.Context, uid: Uid) -> None:
    """Approve a pending or denied machine.

    This adds a device for it, and sends the machine its identity.
    """
    here = session.of(ctx)
    here.show_facts(here.request(admin.CLAIM_APPROVE, uid=uid))


@app.command("deny")
def deny(ctx: typer.Context, uid: Uid) -> None:
    """Refuse a pending machine until it is approved or forgotten."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.CLAIM_DENY, uid=uid))


@app.command("forget")
def forget(ctx: typer.Context, uid: Uid) -> None:
    """Delete the request of a machine without a device.

    The machine can then send a new request, also with another key.
    """
    here = session.of(ctx)
    here.show_facts(here.request(admin.CLAIM_FORGET, uid=uid))
