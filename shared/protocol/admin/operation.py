"""What an operation is: a request, its answer, and the topics that carry them.

A request goes to `admin/{account}/{service}/{noun}/{verb}` with an MQTT 5 Response Topic below
`replies/{account}/` and Correlation Data; the broker has checked the account
in the topic (ADR 0001).
The same `request_id` has one effect and one answer, however often it arrives.
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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    request_id: RequestId


class Result(BaseModel):
    """The base of all results."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_row(cls, row: object, **others: object) -> Self:
        """Return a result whose fields have the values of `others` and, by their names, of a row."""
        named = {name: getattr(row, name) for name in cls.model_fields if name not in others}
        return cls.model_validate(named | others)


class Nothing(Request):
    """A request without parameters."""


class Removed(Result):
    """What was removed."""

    removed: str


class Problem(BaseModel):
    """Why a request was refused; `code` is for scripts, `message` for people, `details` are the facts."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Answer(BaseModel):
    """What comes back: `result` when `ok`, else `error`."""

    ok: bool
    result: dict[str, Any] | None = None
    error: Problem | None = None


Role = words.Role
R = TypeVar("R", bound=Request)
A = TypeVar("A", bound=Result)


@dataclass(frozen=True)
class Operation(Generic[R, A]):
    """Something an admin can ask of a service.

    `once` says that the answer is recorded, so that a repeated request_id gets the same one; a question that
    changes nothing is simply answered again. An answer that holds a `secret` is recorded encrypted. `role` is the
    least that its account must have: the broker takes the request of no other.
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
        """The topic that carries its requests."""
        template = f"{PREFIX}/admin/{{account}}/{self.service}/{self.noun}/{self.verb}"
        return Topic(template, self.request, max_bytes=self.max_bytes)


REPLY = Topic(f"{PREFIX}/replies/{{account}}/{{client_id}}", Answer, max_bytes=1024 * 1024)
