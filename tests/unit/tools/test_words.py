from __future__ import annotations

import pytest

from tools import words

WORDS = {"can not": "cannot", "tried again": "retried"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It can not be.", [(1, "can not")]),
        ("It\nis tried\nagain, and Can not.", [(2, "tried again"), (3, "can not")]),
        ("It cannot; `can not`.\n```\ncan not\n```\n[as](can not.md)", []),
        ("<!-- made by it -->\ncan not\n<!-- end -->\ncan not", [(4, "can not")]),
        ("no scan not here", []),
    ],
)
def test_a_rejected_phrase_is_found_in_prose_only(text: str, found: list[tuple[int, str]]) -> None:
    assert list(words.findings(text, WORDS)) == found


def test_the_documents_use_the_words_of_the_glossary() -> None:
    assert words.replacements()["can not"] == "cannot"
    assert words.main() == 0


def test_no_term_of_the_glossary_is_explained_twice() -> None:
    explained, _, _ = words.GLOSSARY.read_text(encoding="utf-8").partition(words.TABLE)
    terms = [line.split("|")[1].strip() for line in explained.splitlines() if line.startswith("| ")]
    terms = [term for term in terms if term != "term"]
    assert len(terms) == len(set(terms)) > 50
