"""The generated part of a document, between two marks; people write the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def replaced(document: str, begin: str, end: str, part: str) -> str:
    """Return a document with this part between its marks; raise ValueError if it has no such marks."""
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document has no place for it: {begin.strip()} ... {end.strip()}")
    return before + begin + part + end + after


def renewed(file: Path, begin: str, end: str, part: Callable[[], str]) -> str:
    """Return the text of a file with its part regenerated."""
    return replaced(file.read_text(encoding="utf-8"), begin, end, part())
