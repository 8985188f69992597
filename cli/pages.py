"""Answers that come in pages, taken together."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from uuid import uuid4

from cli import client
from shared.protocol import admin

R = TypeVar("R", bound="admin.Request")
A = TypeVar("A", bound="admin.Result")

PAGE: Final = 500


async def collect(
    connection: client.Admin,
    operation: admin.Operation[R, A],
    request: R,
    items: str,
    *,
    timeout_s: float,
    limit: int | None = None,
) -> A:
    """Ask for a page and those that follow; return the last one, with the `items` of all, up to `limit`."""
    cursor = "before" if "before" in operation.request.model_fields else "after"
    found: list[Any] = []
    while True:
        page: Any = await connection.call(operation, request, timeout_s=timeout_s)
        found += getattr(page, items)
        if page.next is None or (limit is not None and len(found) >= limit):
            result: A = page.model_copy(update={items: found})
            return result
        following = {"request_id": uuid4().hex, cursor: page.next}
        if limit is not None:
            following["limit"] = min(limit - len(found), PAGE)
        request = request.model_copy(update=following)
