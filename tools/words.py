"""Reject the words that docs/glossary.md replaces: `python -m tools.words`, part of `make check`."""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
GLOSSARY: Final = _ROOT / "docs/glossary.md"
TABLE: Final = "## Write this, not that\n"
# Checked folders of Python.
CODE: Final = ("services", "shared", "backup", "device", "sdk", "deploy", "tools", "cli", "dev")
_GENERATED: Final = {"api.md", "cli.md", "map.md"}
_MIGRATIONS: Final = "migrations"  # exempt like decisions: they stay as they were made
# What is exempt: generated parts, code blocks, code spans, and the targets of links.
_EXEMPT: Final = re.compile(
    r"<!-- made by .*?<!-- end -->|^```.*?^```|``.+?``|`[^`]+`|\]\([^)]+\)", re.DOTALL | re.MULTILINE
)
_F_STRING: Final = getattr(tokenize, "FSTRING_MIDDLE", None)  # until Python 3.11 an f-string is one STRING


def replacements() -> dict[str, str]:
    """Return each rejected phrase, in lower case, with what to write instead."""
    _, _, table = GLOSSARY.read_text(encoding="utf-8").partition(TABLE)
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    return {phrase.strip().lower(): write.strip() for write, phrases in rows for phrase in phrases.split(",")}


def findings(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the phrase of each rejected phrase in a document, also of one that is wrapped."""
    prose = _EXEMPT.sub(lambda code: _blank(code[0]), text.partition(TABLE)[0])
    phrases = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in words)
    for found in re.finditer(rf"\b({phrases})\b", prose, re.IGNORECASE):
        yield prose.count("\n", 0, found.start()) + 1, " ".join(found[0].lower().split())


def prose_of(source: str) -> str:
    """Return Python source with all but its comments and strings blanked, line by line.

    A string without a space is a name, a topic or a value on the wire, and is blanked too.
    """
    lines = source.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]
    parts, end = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type in {tokenize.STRING, _F_STRING} and " " in token.string):
            start = starts[token.start[0] - 1] + token.start[1]
            parts.append(_blank(source[end:start]))
            end = starts[token.end[0] - 1] + token.end[1]
            parts.append(re.sub(r"[#\"']", " ", source[start:end]))
    return "".join([*parts, _blank(source[end:])])


def documents() -> list[Path]:
    """Return all documents that people write, but for the decisions, which stay as they were made."""
    found = [*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("sdk/**/*.md")]
    return [it for it in sorted(found) if it.name not in _GENERATED]


def modules() -> list[Path]:
    """Return all modules below the checked folders."""
    found = [it for folder in CODE for it in sorted((_ROOT / folder).rglob("*.py"))]
    return [it for it in found if _MIGRATIONS not in it.parts]


def main() -> int:
    """Print each finding and return the exit status."""
    words, count = replacements(), 0
    for file in [*documents(), *modules()]:
        text = file.read_text(encoding="utf-8")
        for line, phrase in findings(prose_of(text) if file.suffix == ".py" else text, words):
            sys.stderr.write(f"{file.relative_to(_ROOT)}:{line}: '{phrase}': write '{words[phrase]}'\n")
            count += 1
    return 1 if count else 0


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


if __name__ == "__main__":
    sys.exit(main())
