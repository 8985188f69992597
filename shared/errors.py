"""All errors that the product raises on purpose; errors of libraries are translated where they enter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

E = TypeVar("E", bound=Exception)


class FleetError(Exception):
    """The root of all errors; `code` is stable, for admins' scripts; `details` are the facts."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInputError(FleetError):
    """A request breaks a rule; the message names the field and the rule."""

    code = "invalid"


class NotFoundError(FleetError):
    """The object of a request does not exist."""

    code = "not_found"


class ConflictError(FleetError):
    """A request conflicts with the present state, such as a name that is taken."""

    code = "conflict"


class UnavailableError(FleetError):
    """Keycloak, the broker or the database does not answer; the same request may be retried."""

    code = "unavailable"


class MessageRefusedError(FleetError):
    """A message on the wire does not match the schema of its topic."""

    code = "message_refused"


class IllegalTransitionError(FleetError):
    """An event is not allowed in the present step; the state is unchanged."""

    code = "illegal_transition"


class LeadershipLostError(FleetError):
    """The advisory lock is lost: this process must not write as the leader any more."""

    code = "leadership_lost"


@contextmanager
def cancellation_first() -> Iterator[None]:
    """Let a cancellation win over an error of the cleanup after it, such as a rollback on a broken connection.

    Whoever handles that error would continue, and the cancelled task would never end. Not for a block with a task
    group: Python 3.11 counts its end by an error as a cancellation.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except Exception as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise


def first(group: ExceptionGroup[E]) -> E:
    """Return the first error in nested groups."""
    error = group.exceptions[0]
    return first(error) if isinstance(error, ExceptionGroup) else error
