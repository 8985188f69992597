"""`mdm admin`: the accounts of admins and their roles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output, profile, session, tables
from shared import crypto
from shared.errors import ConflictError
from shared.protocol import admin
from shared.protocol.words import Role

app = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the account; a-z, 0-9, - and _.")]
Output = Annotated[
    Path,
    typer.Option("--output", metavar="FILE", help="File to write its profile to, with a new random password."),
]


@app.command("add")
def add(
    ctx: typer.Context,
    name: Name,
    *,
    role: Annotated[
        Role,
        typer.Option(
            help="Role: viewers may read, operators do the daily work, admins may do everything; app is for other "
            "software, which has the devices' own topics and manages nothing."
        ),
    ],
    target: Output,
) -> None:
    """Add an account and write its profile.

    Its owner uses the profile by `mdm --profile FILE`, except for the role app: that account has the topics
    `app/+/up/#` and `app/+/down/#`, makes no requests, and is for other software.
    """
    here = session.of(ctx)
    made = _profile(here, name, target)
    _show(here, here.request(admin.ACCOUNT_ADD, name=name, role=role, password=_secret(made)), made, target)


@app.command("list")
def show_all(ctx: typer.Context) -> None:
    """List the accounts, except the built-in one."""
    here = session.of(ctx)
    found = here.request(admin.ACCOUNT_LIST)
    here.show_table(
        found,
        found.accounts,
        "account=name, role, in the broker=present, --by=author, -since=created_at",
        none="no accounts except the built-in one; `mdm admin add NAME --role ROLE --output FILE` adds one",
    )


@app.command("role")
def set_role(
    ctx: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="New role of the account.")],
) -> None:
    """Change the role of an account."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.ACCOUNT_ROLE, name=name, role=role), "account=name, role")


@app.command("password")
def set_password(ctx: typer.Context, name: Name, *, target: Output) -> None:
    """Change the password of an account.

    An account that is missing in the broker is created again.
    """
    here = session.of(ctx)
    made = _profile(here, name, target)
    _show(here, here.request(admin.ACCOUNT_PASSWORD, name=name, password=_secret(made)), made, target)


@app.command("remove")
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove an account and close its connections at once."""
    here = session.of(ctx)
    here.show_facts(here.request(admin.ACCOUNT_REMOVE, name=name))


def _profile(here: session.Session, name: str, target: Path) -> profile.Profile:
    """Return a copy of the session's profile with another account and a new password."""
    if target.exists():
        raise ConflictError(f"--output: {target} exists; name another file")
    ours = here.profile
    changed = {
        "account": name,
        "password": crypto.new_secret(),
        "ca_file": ours.ca_file.absolute() if ours.ca_file else None,
    }
    return ours.model_copy(update=changed)


def _secret(made: profile.Profile) -> str:
    return made.password.get_secret_value()


def _show(here: session.Session, account: admin.AccountView, made: profile.Profile, target: Path) -> None:
    made.save(target)
    if here.as_json:
        output.print_json({**account.model_dump(mode="json"), "output": str(target)})
    else:
        tables.print_facts(account, ("account=name, role", ("profile", lambda _: target)))
