"""`mdm login`: prompts for connection settings, tests them, and writes them to the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cli import client, output, passwords, profile, session
from shared.protocol import admin
from shared.protocol.words import Role


def login(ctx: typer.Context) -> None:
    """Test connection settings and write the profile.

    A terminal prompts for settings that are not given as options. Without a terminal, the password is MDM_PASSWORD
    or the first line of standard input. The profile has mode 0600.
    """
    here = session.of(ctx)
    place = here.profile_path or profile.default_path()
    known = profile.read(place) if place.exists() else {}
    given = {name: value for name, value in here.given.items() if value is not None}
    facts = known | given
    if facts.get("ca_file"):
        facts["ca_file"] = Path(facts["ca_file"]).absolute()
    if passwords.is_terminal():
        _prompt(facts, given)
    facts["password"] = passwords.read("password", variable="MDM_PASSWORD")
    wanted = profile.complete(facts, place)
    role = _checked(here, wanted)
    wanted.save(place)
    found: dict[str, object] = {"account": wanted.account, "role": role, "profile": str(place)}
    here.show_facts(found)


def _prompt(facts: dict[str, Any], given: dict[str, Any]) -> None:
    """Prompt for each setting that is not given, with the profile's value as default."""
    usual = {"port": profile.TLS_PORT if facts.get("ca_file") or facts.get("tls") else profile.PLAIN_PORT}
    for name, title in (("host", "Host"), ("port", "Port"), ("account", "Account")):
        if name not in given:
            facts[name] = typer.prompt(title, default=facts.get(name, usual.get(name)), err=True)


def _checked(here: session.Session, wanted: profile.Profile) -> Role | None:
    """Connect and return the account's role, or None if the registry does not answer."""

    async def read_role(connected: client.Admin) -> Role | None:
        try:
            request = client.build(admin.ACCOUNT_WHOAMI)
            return (await connected.call(admin.ACCOUNT_WHOAMI, request, timeout_s=here.timeout_s)).role
        except (client.NoAnswerError, client.AnswerError, client.NotAllowedError) as error:
            output.print_note(f"connected, but the role is unknown: {error.message}")
            return None

    return here.run(read_role, wanted)
