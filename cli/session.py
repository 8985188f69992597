"""The global options, and how commands send requests and print results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import typer

from cli import client, device_names, output, pages, tables
from cli import profile as profiles
from cli.durations import TIMEOUT_S
from shared.protocol import admin

R = TypeVar("R", bound="admin.Request")
A = TypeVar("A", bound="admin.Result")
T = TypeVar("T")
Row = TypeVar("Row")
Shown = TypeVar("Shown", bound="admin.Result | dict[str, Any]")


@dataclass
class Session:
    """The global options of one run of the tool."""

    as_json: bool = False
    columns: Sequence[str] = ()
    timeout_s: float = TIMEOUT_S
    profile_path: Path | None = None
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> profiles.Profile:
        """The connection settings; raise ProfileError if they are incomplete or invalid."""
        return profiles.resolve(self.profile_path, self.given)

    def request(self, operation: admin.Operation[R, A], **fields: object) -> A:
        """Connect, send one request without the fields that are None, and return its result.

        A field `device` may be any name of a device.
        """
        request, device = self._built(operation, fields)

        async def work(connected: client.Admin) -> A:
            named = await device_names.named(connected, request, device, timeout_s=self.timeout_s)
            return await connected.call(operation, named, timeout_s=self.timeout_s)

        return self.run(work)

    def request_pages(
        self, operation: admin.Operation[R, A], items: str, *, limit: int | None = None, **fields: object
    ) -> A:
        """Request all pages; return one result with the `items` of all, up to `limit`."""
        fields["limit"] = None if limit is None else min(limit, pages.PAGE)
        request, device = self._built(operation, fields)

        async def work(connected: client.Admin) -> A:
            named = await device_names.named(connected, request, device, timeout_s=self.timeout_s)
            return await pages.collect(connected, operation, named, items, timeout_s=self.timeout_s, limit=limit)

        return self.run(work)

    def device(self, text: str) -> str:
        """Connect and return the client id of a device, named in any way."""
        return self.run(lambda connected: device_names.resolve(connected, text, timeout_s=self.timeout_s))

    @staticmethod
    def _built(operation: admin.Operation[R, A], fields: dict[str, object]) -> tuple[R, str | None]:
        """Return the request, checked before anything is sent, and the name of its device."""
        device = fields.get("device")
        if not isinstance(device, str):
            return client.build(operation, **fields), None
        return client.build(operation, **{**fields, "device": device_names.ANY}), device

    def show(self, result: Shown, as_text: Callable[[Shown], None]) -> None:
        """Print a result as JSON with `--json`, else for people by `as_text`."""
        if self.as_json:
            output.print_json(result)
        else:
            as_text(result)

    def show_facts(self, result: Shown, columns: Sequence[tables.Column[Shown]] | None = None) -> None:
        """Print a result as JSON with `--json`, else these columns of it, or all of it, as names and values."""
        self.show(result, tables.print_all if columns is None else lambda one: tables.print_facts(one, columns))

    def show_table(
        self,
        result: admin.Result,
        rows: Iterable[Row],
        columns: Sequence[tables.Column[Row]],
        *,
        none: str | None = None,
    ) -> None:
        """Print a result as JSON with `--json`, else its rows as a table of the chosen columns."""
        self.show(result, lambda _: tables.print_table(rows, columns, none=none, only=self.columns))

    def run(self, work: Callable[[client.Admin], Awaitable[T]], using: profiles.Profile | None = None) -> T:
        """Connect, by the session's profile unless another is given, and run `work`."""
        return client.run(work, using or self.profile, timeout_s=self.timeout_s)


def of(ctx: typer.Context) -> Session:
    """Return the session with the global options."""
    session: Session = ctx.ensure_object(Session)
    return session
