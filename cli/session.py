"""What all commands share: the global options, and how one asks a service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import typer

from cli import client, output, pages
from cli import profile as profiles
from cli.durations import TIMEOUT_S
from shared.protocol import admin

R = TypeVar("R", bound="admin.Request")
A = TypeVar("A", bound="admin.Result")
T = TypeVar("T")
Shown = TypeVar("Shown", bound="admin.Result | dict[str, Any]")


@dataclass
class Session:
    """The global options of one run of the tool."""

    as_json: bool = False
    timeout_s: float = TIMEOUT_S
    profile_path: Path | None = None
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> profiles.Profile:
        """Where and as whom to connect, or ProfileError."""
        return profiles.resolve(self.profile_path, self.given)

    def ask(self, operation: admin.Operation[R, A], **fields: object) -> A:
        """Connect, send one request and return its result; fields that are None are left out."""
        request = client.build(operation, **fields)
        return self.run(lambda connected: connected.call(operation, request, timeout_s=self.timeout_s))

    def ask_pages(
        self, operation: admin.Operation[R, A], items: str, *, limit: int | None = None, **fields: object
    ) -> A:
        """Connect and ask for page after page; return one result with the `items` of all, up to `limit`."""
        request = client.build(operation, limit=None if limit is None else min(limit, pages.PAGE), **fields)
        return self.run(
            lambda connected: pages.collect(
                connected, operation, request, items, timeout_s=self.timeout_s, limit=limit
            )
        )

    def show(self, result: Shown, as_text: Callable[[Shown], None]) -> None:
        """Print a result as JSON if that was asked for, else as `as_text` prints it for people."""
        if self.as_json:
            output.print_json(result)
        else:
            as_text(result)

    def run(self, work: Callable[[client.Admin], Awaitable[T]], using: profiles.Profile | None = None) -> T:
        """Connect, with another profile than the session's own if given, and do `work`."""
        return client.run(work, using or self.profile)


def of(ctx: typer.Context) -> Session:
    """Return the session that the global options have made."""
    session: Session = ctx.ensure_object(Session)
    return session
