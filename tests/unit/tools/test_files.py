from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import marked
from tools.files import FILES


@pytest.mark.parametrize(("file", "text"), FILES.items(), ids=lambda value: getattr(value, "name", ""))
def test_what_is_made_of_the_code_is_up_to_date(file: Path, text: Callable[[], str]) -> None:
    assert file.read_text(encoding="utf-8") == text(), "run `make docs`"


def test_only_the_part_between_the_marks_is_replaced() -> None:
    assert marked.replaced("a\n<\nold\n>\nb\n>\nc\n", "<\n", ">\n", "new\n") == "a\n<\nnew\n>\nb\n>\nc\n"


@pytest.mark.parametrize("document", ["", "no mark", "<\nwithout an end"])
def test_a_document_without_a_place_for_it_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match=r"no place for it: < \.\.\. >"):
        marked.replaced(document, "<\n", ">\n", "new\n")
