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

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account; a-z, 0-9, - and _.")]
Output = Annotated[
    Path, typer.Option("--output", metavar="FILE", help="Where its profile goes, with a new random password.")
]


@app.command("add")
def add(
    ctx: typer.Context,
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="What it may do.")],
    target: Output,
) -> None:
    """Make an account and write the profile with which its owner uses mdm (`mdm --profile FILE`)."""
    here = session.of(ctx)
    made = _profile(here, name, target)
    _show(here, here.ask(admin.ACCOUNT_ADD, name=name, role=role, password=_secret(made)), made, target)


@app.command("list")
def show_all(ctx: typer.Context) -> None:
    """List the accounts, but for the built-in one."""
    here = session.of(ctx)
    found = here.ask(admin.ACCOUNT_LIST)
    here.show_table(
        found,
        found.accounts,
        ("account=name", "role", "in the broker=present", "by=author", "since=created_at"),
        none="only the built-in account; `mdm admin add NAME --role ROLE --output FILE` makes others",
    )


@app.command("role")
def set_role(
    ctx: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="What it may do from now on.")],
) -> None:
    """Give an account another role."""
    here = session.of(ctx)
    here.show_facts(here.ask(admin.ACCOUNT_ROLE, name=name, role=role), ("account=name", "role"))


@app.command("password")
def set_password(ctx: typer.Context, name: Name, *, target: Output) -> None:
    """Give an account another password; if the broker has lost the account, make it again."""
    here = session.of(ctx)
    made = _profile(here, name, target)
    _show(here, here.ask(admin.ACCOUNT_PASSWORD, name=name, password=_secret(made)), made, target)


@app.command("remove")
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove an account; whoever is connected with it is dropped at once."""
    here = session.of(ctx)
    here.show_facts(here.ask(admin.ACCOUNT_REMOVE, name=name))


def _profile(here: session.Session, name: str, target: Path) -> profile.Profile:
    """Return our own profile with another account and a new password in it."""
    if target.exists():
        raise ConflictError(f"output: {target} exists; name another file")
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
        tables.print_facts(account, ("account=name", "role", ("profile", lambda _: target)))
