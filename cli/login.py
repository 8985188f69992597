"""`mdm login`: asks where to connect and as whom, tries it, and keeps it in the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cli import client, output, passwords, profile, session
from shared.protocol import admin
from shared.protocol.words import Role


def login(ctx: typer.Context) -> None:
    """Ask for what is not given, check it by connecting, and write the profile with mode 0600.

    Without a terminal, nothing is asked: the password is MDM_PASSWORD, or the first line of standard input.
    """
    here = session.of(ctx)
    place = here.profile_path or profile.default_path()
    known = profile.read(place) if place.exists() else {}
    given = {name: value for name, value in here.given.items() if value is not None}
    facts = known | given
    if facts.get("ca_file"):
        facts["ca_file"] = Path(facts["ca_file"]).absolute()
    if passwords.is_terminal():
        _ask(facts, given)
    facts["password"] = passwords.ask("password", variable="MDM_PASSWORD")
    wanted = profile.complete(facts, place)
    role = _checked(here, wanted)
    wanted.save(place)
    found: dict[str, object] = {"account": wanted.account, "role": role, "profile": str(place)}
    here.show_facts(found)


def _ask(facts: dict[str, Any], given: dict[str, Any]) -> None:
    """Ask for each fact that is not given, offering what the profile has."""
    usual = {"port": profile.TLS_PORT if facts.get("ca_file") or facts.get("tls") else profile.PLAIN_PORT}
    for name, title in (("host", "Host"), ("port", "Port"), ("account", "Account")):
        if name not in given:
            facts[name] = typer.prompt(title, default=facts.get(name, usual.get(name)), err=True)


def _checked(here: session.Session, wanted: profile.Profile) -> Role | None:
    """Connect, and return the account's role; None if the registry does not tell."""

    async def asked(connected: client.Admin) -> Role | None:
        try:
            request = client.build(admin.ACCOUNT_WHOAMI)
            return (await connected.call(admin.ACCOUNT_WHOAMI, request, timeout_s=here.timeout_s)).role
        except (client.NoAnswerError, client.AnswerError, client.NotAllowedError) as error:
            output.print_note(f"connected, but the role is not known: {error.message}")
            return None

    return here.run(asked, wanted)
