"""Every error that the product raises on purpose; a library's errors are translated at the edge."""

from __future__ import annotations

from typing import ClassVar


class FleetError(Exception):
    """The root of all errors; `code` is what an admin's script may rely on, `details` are the facts."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInputError(FleetError):
    """A request breaks a rule; the message names the field and the rule."""

    code = "invalid"


class NotFoundError(FleetError):
    """What a request names does not exist."""

    code = "not_found"


class ConflictError(FleetError):
    """A request contradicts the present state, such as a name that is taken."""

    code = "conflict"


class UnavailableError(FleetError):
    """Keycloak, the broker or the database does not answer; the same request may be sent again."""

    code = "unavailable"


class MessageRefusedError(FleetError):
    """A message from the wire cannot be read as what its topic promises."""

    code = "message_refused"


class IllegalTransitionError(FleetError):
    """An event does not belong to the present step; the state stays as it was."""

    code = "illegal_transition"


class LeadershipLostError(FleetError):
    """The advisory lock is gone: this process may write nothing more as the leader."""

    code = "leadership_lost"
