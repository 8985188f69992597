"""The map of the code: each folder and module with the first line of its docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
_TOP: Final = ("services", "shared", "backup", "cli", "device", "deploy", "tools", "dev", "tests")
_ABOUT: Final = """# Map of the code

Each folder and what it is for; outside tests/ each module too. Made by `make docs`; `make map` prints the folders.
"""


def folders() -> Iterator[tuple[str, str]]:
    """Yield each package, as a path from the root, and its purpose."""
    for top in _TOP:
        for file in sorted((_ROOT / top).rglob("__init__.py")):
            yield str(file.parent.relative_to(_ROOT)), purpose(file)


def text() -> str:
    """Return the page in docs/."""
    lines = [_ABOUT]
    for folder, what in folders():
        lines.append(f"## {folder}/\n\n{what}\n")
        if folder.partition("/")[0] != "tests":
            modules = [it for it in sorted((_ROOT / folder).glob("*.py")) if not it.name.startswith("__")]
            lines += [f"- [{it.name}](../{folder}/{it.name}): {purpose(it)}" for it in modules]
            lines += [""] if modules else []
    return "\n".join(lines).rstrip() + "\n"


def purpose(file: Path) -> str:
    """Return the first line of a module's docstring; ValueError if it has none."""
    found = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not found:
        raise ValueError(f"{file.relative_to(_ROOT)}: has no docstring that says what it is for")
    return " ".join(found.split("\n\n")[0].split())


if __name__ == "__main__":
    width = max(len(folder) for folder, _ in folders())
    for folder, what in folders():
        print(f"{folder:<{width}}  {what}")  # noqa: T201 - what it is for
