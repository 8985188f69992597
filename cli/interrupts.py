"""Ctrl-C ends the tool without a traceback, also while its modules are imported."""

import sys
from types import TracebackType


def end_quietly() -> None:
    """Print nothing for a KeyboardInterrupt that nobody handles; Python then ends as killed by SIGINT."""
    usual = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, error, trace)

    sys.excepthook = report
