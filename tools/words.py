"""Reject the words that docs/glossary.md replaces: `python -m tools.words`, part of `make check`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
GLOSSARY: Final = _ROOT / "docs/glossary.md"
TABLE: Final = "## Write this, not that\n"
_GENERATED: Final = {"api.md", "cli.md", "map.md"}
# What is exempt: parts made of the code, code blocks, code spans, and the targets of links.
_CODE: Final = re.compile(
    r"<!-- made by .*?<!-- end -->|^```.*?^```|``.+?``|`[^`]+`|\]\([^)]+\)", re.DOTALL | re.MULTILINE
)


def replacements() -> dict[str, str]:
    """Return each rejected phrase, in lower case, with what to write instead."""
    _, _, table = GLOSSARY.read_text(encoding="utf-8").partition(TABLE)
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    return {phrase.strip().lower(): write.strip() for write, phrases in rows for phrase in phrases.split(",")}


def findings(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the phrase of each rejected phrase in a document, also of one that is wrapped."""
    prose = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text.partition(TABLE)[0])
    phrases = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in words)
    for found in re.finditer(rf"\b({phrases})\b", prose, re.IGNORECASE):
        yield prose.count("\n", 0, found.start()) + 1, " ".join(found[0].lower().split())


def documents() -> list[Path]:
    """Return all documents that people write, but for the decisions, which stay as they were made."""
    return [it for it in sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md")]) if it.name not in _GENERATED]


def main() -> int:
    """Print each finding and return the exit status."""
    words, count = replacements(), 0
    for file in documents():
        for line, phrase in findings(file.read_text(encoding="utf-8"), words):
            sys.stderr.write(f"{file.relative_to(_ROOT)}:{line}: '{phrase}': write '{words[phrase]}'\n")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
