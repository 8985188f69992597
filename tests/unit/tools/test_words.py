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


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# It can not be.", [(1, "can not")]),
        ("# It is tried\n# again.", [(1, "tried again")]),
        ('def can_not():\n    """Do it.\n\n    It can not\n    be. `can not`\n    """', [(4, "can not")]),
        ('raise ValueError(f"{name} can not", "tried " "again now")', [(1, "can not"), (1, "tried again")]),
        ('x = "it is tried "\n"again now"', [(1, "tried again")]),
        ("can = not tried\nagain = {'tried'}", []),
    ],
)
def test_a_rejected_phrase_is_found_in_comments_and_strings_only(
    source: str, found: list[tuple[int, str]]
) -> None:
    assert list(words.findings(words.prose_of(source), WORDS)) == found


def test_a_string_without_a_space_is_a_name_and_not_prose() -> None:
    assert list(words.findings(words.prose_of('x = "tells", f"tells", "it tells"'), {"tells": "shows"})) == [
        (1, "tells")
    ]


def test_all_folders_of_the_product_but_migrations_are_checked() -> None:
    checked = {it.relative_to(words.GLOSSARY.parents[1]).as_posix() for it in words.modules()}
    assert {"services/rotator/main.py", "shared/crypto.py", "backup/make.py", "device/agent.py"} <= checked
    assert {"deploy/broker.py", "tools/words.py", "cli/main.py", "dev/stack.py"} <= checked
    assert not any("/migrations/" in it for it in checked)


def test_documents_and_code_use_the_words_of_the_glossary() -> None:
    assert words.replacements()["can not"] == "cannot"
    assert words.main() == 0


def test_no_term_of_the_glossary_is_explained_twice() -> None:
    explained, _, _ = words.GLOSSARY.read_text(encoding="utf-8").partition(words.TABLE)
    terms = [line.split("|")[1].strip() for line in explained.splitlines() if line.startswith("| ")]
    terms = [term for term in terms if term != "term"]
    assert len(terms) == len(set(terms)) > 50
