"""Admin operations: a request, its answer, and their topics.

A request goes to `admin/{account}/{service}/{noun}/{verb}` with an MQTT 5 Response Topic below
`replies/{account}/` and Correlation Data; the broker has checked the account in the topic (ADR 0001). Requests
with the same `request_id` have one effect and one answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from shared.protocol import words
from shared.protocol.messages import RequestId
from shared.protocol.topics import PREFIX, Topic


class Request(BaseModel):
    """The base of all requests; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    request_id: RequestId


class Result(BaseModel):
    """The base of all results."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    @classmethod
    def from_row(cls, row: object, **others: object) -> Self:
        """Return a result whose fields have the values in `others`, else those of the row's attributes."""
        named = {name: getattr(row, name) for name in cls.model_fields if name not in others}
        return cls.model_validate(named | others)


class Nothing(Request):
    """A request without parameters."""


class Removed(Result):
    """Names of the removed objects."""

    removed: str


class Problem(BaseModel):
    """The reason of a refusal; `code` is for scripts, `message` for people, `details` are the facts."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Answer(BaseModel):
    """The answer to a request: `result` when `ok`, else `error`."""

    ok: bool
    result: dict[str, Any] | None = None
    error: Problem | None = None


Role = words.Role
R = TypeVar("R", bound=Request)
A = TypeVar("A", bound=Result)


@dataclass(frozen=True)
class Operation(Generic[R, A]):
    """An operation that admins can request of a service.

    With `once` the answer is recorded, so that a repeated request_id gets the same one; a query that changes
    nothing is simply answered again. An answer that has a `secret` is recorded encrypted. `role` is the least role
    of the account: the broker refuses the request of any other.
    """

    service: str
    noun: str
    verb: str
    request: type[R]
    result: type[A]
    once: bool = True
    secret: bool = False
    max_bytes: int = 128 * 1024
    role: Role = Role.ADMIN

    @property
    def name(self) -> str:
        """The operation's name, as in `registry.device.add`."""
        return f"{self.service}.{self.noun}.{self.verb}"

    @cached_property
    def topic(self) -> Topic[R]:
        """The topic of its requests."""
        template = f"{PREFIX}/admin/{{account}}/{self.service}/{self.noun}/{self.verb}"
        return Topic(template, self.request, max_bytes=self.max_bytes, exact=True)


REPLY = Topic(f"{PREFIX}/replies/{{account}}/{{client_id}}", Answer, max_bytes=1024 * 1024)
