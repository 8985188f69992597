"""Words of the protocol that a command line names in its help: for this alone, nothing else need be imported."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What an admin account may do: read what is no secret, do the daily work too, or do everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Say whether who has this role may do all that is for the other one."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class LogLevel(StrEnum):
    """How much a line of a log matters, in rising order."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
