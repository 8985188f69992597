"""A matrix of faults: each case is run, whatever becomes of the others, and its size and result are printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

reports: Final[list[str]] = []
"""What the summary at the end of all tests prints, see conftest.py."""
ENOUGH: Final = 5
"""So many failures end a matrix: each may have waited long."""


@dataclass(slots=True)
class Case:
    """One fault, and what became of it in a word."""

    name: str
    outcome: str = ""


@dataclass(slots=True)
class Matrix:
    """The cases of one title."""

    title: str
    _outcomes: Counter[str] = field(default_factory=Counter)
    _failures: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def case(self, name: object) -> AsyncIterator[Case]:
        """Run one case; its failure is kept for the end, so that the others are seen too."""
        case = Case(str(name))
        try:
            yield case
        except Exception as error:  # noqa: BLE001 - raised again by `end`, with all others
            self._failures.append(f"{case.name}: {_shown(error)}")
            if len(self._failures) == ENOUGH:
                self.end()
        else:
            self._outcomes[case.outcome] += 1

    def end(self) -> None:
        """Print the size and the result, and fail if a case did, or if there was none."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items()))
        size = self._outcomes.total() + len(self._failures)
        reports.append(f"{self.title}: {size} cases: {counts}; {len(self._failures)} failed")
        assert size, f"{self.title}: no cases"
        assert not self._failures, "\n".join(self._failures)


def _shown(error: BaseException) -> str:
    """Return what went wrong, of a group each error."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_shown, error.exceptions))
    return f"{type(error).__name__}: {error}"
