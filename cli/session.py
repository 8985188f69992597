"""What all commands share: the global options, and how one asks a service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import typer
from pydantic import ValidationError

from cli import client, output, profile
from cli.profile import Profile
from shared.errors import InvalidInputError
from shared.protocol import admin
from shared.protocol.topics import explain

R = TypeVar("R", bound=admin.Request)
A = TypeVar("A", bound=admin.Result)
T = TypeVar("T")


@dataclass
class Session:
    """The global options of one run of the tool."""

    as_json: bool = False
    timeout_s: float = client.TIMEOUT_S
    profile_path: Path | None = None
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> Profile:
        """Where and as whom to connect, or ProfileError."""
        return profile.resolve(self.profile_path, self.given)

    def ask(self, operation: admin.Operation[R, A], **fields: object) -> A:
        """Connect, send one request and return its result; fields that are None are left out."""
        request = build(operation, **fields)
        return self.run(lambda connected: connected.call(operation, request, timeout_s=self.timeout_s))

    def show(self, result: A, as_text: Callable[[A], None]) -> None:
        """Print a result as JSON if that was asked for, else as `as_text` prints it for people."""
        if self.as_json:
            output.print_json(result)
        else:
            as_text(result)

    def run(self, work: Callable[[client.Admin], Awaitable[T]], using: Profile | None = None) -> T:
        """Connect, with another profile than the session's own if given, and do `work`."""

        async def connected() -> T:
            async with client.Admin(using or self.profile) as connection:
                return await work(connection)

        return asyncio.run(connected())


def of(ctx: typer.Context) -> Session:
    """Return the session that the global options have made."""
    session: Session = ctx.ensure_object(Session)
    return session


def build(operation: admin.Operation[R, A], **fields: object) -> R:
    """Return a new request, or raise InvalidInputError naming each bad field and its rule."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return operation.request.model_validate({"request_id": uuid4().hex, **given})
    except ValidationError as error:
        raise InvalidInputError(explain(error)) from None
