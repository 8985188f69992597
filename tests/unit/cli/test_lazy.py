"""Modules that a command uses to run are not imported to describe it."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from cli import lazy

LOADED = """
import sys, types
sys.argv[0] = "mdm"
from cli import main
try:
    main.main()
except SystemExit:
    print(*(name for name, module in sys.modules.items() if type(module) is types.ModuleType), file=sys.stderr)
"""
HEAVY = {
    *("aiomqtt", "cryptography", "device", "httpx", "joserfc", "keycloak", "paho", "pydantic"),
    *("rich.console", "sqlalchemy", "structlog", "cli.client", "cli.tables", "shared.protocol.admin"),
}


def loaded(*words: str, **environment: str) -> set[str]:
    """Run the tool in a new process, and return what it has imported."""
    started = [sys.executable, "-c", LOADED, *words]
    ended = subprocess.run(started, env=environment, check=False, capture_output=True, text=True)
    return set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("frob",),
        ("model", "add"),
        ("device", "--help"),
        ("device", "provision", "--help"),
        ("log", "show", "--help"),
        ("admin", "add", "--frob"),
        ("simulate",),
    ],
)
def test_help_and_wrong_words_need_nothing_heavy(words: tuple[str, ...]) -> None:
    names = loaded(*words)
    assert "cli.main" in names
    assert not names & HEAVY


def test_completion_needs_nothing_heavy() -> None:
    names = loaded(_MDM_COMPLETE="complete_bash", COMP_WORDS="mdm device ", COMP_CWORD="2")
    assert "cli.devices" in names
    assert not names & HEAVY


def test_a_request_needs_what_it_uses_only() -> None:
    names = loaded("--host", "127.0.0.1", "--port", "1", "--account", "a", "model", "list", MDM_PASSWORD="x")
    assert {"cli.client", "shared.protocol.admin"} <= names
    assert not names & {"cli.devices", "cryptography", "device", "httpx", "joserfc", "rich.console", "structlog"}


def test_a_module_is_deferred_until_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    lazy.defer("colorsys")
    import colorsys  # noqa: PLC0415 - it is deferred from here on

    assert type(colorsys) is not ModuleType
    assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
    assert type(colorsys) is ModuleType
    lazy.defer("colorsys")
    assert sys.modules["colorsys"] is colorsys


def test_a_missing_module_cannot_be_deferred() -> None:
    with pytest.raises(ModuleNotFoundError, match="no module named nowhere"):
        lazy.defer("nowhere")
