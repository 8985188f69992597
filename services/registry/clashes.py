"""Detection of clashes, without I/O: two boards with one identity, which end each other's connection.

A single board with a bad connection also connects again and again, and so does one that restarts. But only of two
boards does a mark return after another one took its place: the number that a board picks at its start, or, if it
reports none, the address from which it takes the session over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

WINDOW: Final = timedelta(minutes=10)
RETURNS: Final = 3
"""So many within the window, as one may be a message that was late, or a board between two networks."""
_KEPT: Final = 16

Marks: TypeAlias = list[tuple[int | str, datetime]]
"""Marks of one identity, none twice in a row, each with the last time at which it was in use."""


def added(marks: Marks, mark: int | str, at: datetime) -> Marks:
    """Return the marks with another one at `at`, without those that are older than the window."""
    if marks and marks[-1][0] == mark:
        return [*marks[:-1], (mark, at)]
    earlier = [*marks[:-1], (marks[-1][0], at)] if marks else []
    return [*[it for it in earlier if it[1] > at - WINDOW][1 - _KEPT :], (mark, at)]


def is_clash(marks: Marks) -> bool:
    """Return whether marks are those of two boards."""
    values = [mark for mark, _ in marks]
    return sum(value in values[:place] for place, value in enumerate(values)) >= RETURNS


def is_recent(clashed_at: datetime | None, now: datetime) -> bool:
    """Return whether a clash that was last seen at `clashed_at` is in progress."""
    return clashed_at is not None and clashed_at > now - WINDOW


@dataclass(slots=True)
class Clashes:
    """The marks of all identities, by client id, and the clashes that are still to be stored."""

    seen_at: dict[str, datetime] = field(default_factory=dict)
    _boots: dict[str, Marks] = field(default_factory=dict)
    _addresses: dict[str, Marks] = field(default_factory=dict)

    def on_boot(self, client_id: str, boot: int, at: datetime) -> None:
        """Note the number of the start of the board that has just reported online."""
        if self._addresses.pop(client_id, None) is not None:
            self.seen_at.pop(client_id, None)  # by its addresses, which say nothing of such a board
        self._note(self._boots, client_id, boot, at)

    def on_takeover(self, client_id: str, address: str, at: datetime) -> None:
        """Note the address from which a session was taken over, of a board that reports no number."""
        if not self.is_numbered(client_id):
            self._note(self._addresses, client_id, address, at)

    def is_numbered(self, client_id: str) -> bool:
        """Return whether a board has reported a number to this process, so that its addresses do not count."""
        return client_id in self._boots

    def _note(self, all_marks: dict[str, Marks], client_id: str, mark: int | str, at: datetime) -> None:
        marks = all_marks[client_id] = added(all_marks.get(client_id, []), mark, at)
        if is_clash(marks):
            self.seen_at[client_id] = at
