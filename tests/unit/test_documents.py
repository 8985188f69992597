"""What the documents say of the tests is so, and what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent.parent
ROOT: Final = TESTS.parent
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sdk/**/*.md")])
CODE: Final = re.compile(r"^```.*?^```|`[^`]+`", re.DOTALL | re.MULTILINE)
NAMED: Final = re.findall(r"`([a-z_/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())


def test_security_names_tests() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_security_names_is_there(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    without_blocks = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", without_blocks, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(it.relative_to(ROOT)) for it in DOCUMENTS])
def test_what_a_document_links_to_is_there(document: Path) -> None:
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", document.read_text())):
        place, _, anchor = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(link)
    assert not missing
