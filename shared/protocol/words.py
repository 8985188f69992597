"""Words of the protocol for the help texts of command lines, without the cost of other imports."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The rights of an account: read all but secrets, do the daily work too, or do everything.

    An account with the role `app` makes no requests: it has the devices' own topics, and nothing else.
    """

    APP = "app"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Return whether this role has all rights of the other one."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class LogLevel(StrEnum):
    """The level of a line of a log, in rising order."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
