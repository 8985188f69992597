"""`mdm backup` and `mdm restore` without a system: prompts and output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from backup import make
from backup.restore import Part, Restore, Restored
from cli import main, passwords
from shared.errors import InvalidInputError
from tests.unit.cli import fakes

PASSPHRASE = "correct horse battery staple"
MADE = make.Made(
    created_at=fakes.NOW,
    revision="0001",
    devices=2,
    images=1,
    has_broker=False,
    without_secret=[],
    missing_images=[],
)
RESTORED = Restored(
    created_at=fakes.NOW,
    parts=list(Part),
    devices=2,
    secrets_restored=1,
    secrets_kept=1,
    images=1,
    accounts_file=True,
    without_secret=[],
    newer=[],
    in_rotation=[],
    adopted=[],
    unknown=[],
)


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment be a service's."""
    for name, value in {
        "DATABASE_URL": "postgresql+asyncpg://u:p@h/d",
        "KEYCLOAK_URL": "http://k",
        "KEYCLOAK_CLIENT_ID": "c",
        "KEYCLOAK_CLIENT_SECRET": "s",
        "ASSETS_URL": "memory:///",
        "MASTER_KEYS": Fernet.generate_key().decode(),
        "BACKUP_PASSPHRASE": PASSPHRASE,
    }.items():
        monkeypatch.setenv(f"MDM_{name}", value)


def mdm(*words: object, typed: str = "") -> Result:
    return CliRunner().invoke(main.app, list(map(str, words)), prog_name="mdm", input=typed)


def prepared(monkeypatch: pytest.MonkeyPatch, **facts: object) -> dict[str, Any]:
    """Let both commands succeed with these facts, and return what they are called with."""
    seen: dict[str, Any] = {}

    async def write(settings: object, target: Path, passphrase: SecretStr, *, watch: make.Watch) -> make.Made:
        watch("database", 1, 2)
        seen.update(settings=settings, target=target, passphrase=passphrase.get_secret_value())
        return MADE.model_copy(update=facts)

    async def run(restore: Restore, *, replace: bool) -> Restored:
        seen.update(parts=restore.parts, passphrase=restore.passphrase.get_secret_value(), replace=replace)
        return RESTORED.model_copy(update=facts)

    monkeypatch.setattr(make, "write", write)
    monkeypatch.setattr(Restore, "run", run)
    return seen


def test_a_backup_without_the_brokers_file_prints_what_it_does_not_include(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = prepared(monkeypatch)
    done = mdm("backup", tmp_path / "b")
    assert (done.exit_code, seen["passphrase"]) == (0, PASSPHRASE)
    assert "does not include the passwords of claims and admins" in done.stderr
    assert PASSPHRASE not in done.output


def test_a_backup_of_a_system_that_lacks_something_names_it_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepared(monkeypatch, without_secret=["iotdevice-lamp-abcd1234"])
    done = mdm("backup", tmp_path / "b")
    assert done.exit_code == 1
    assert "iotdevice-lamp-abcd1234" in done.stdout


@pytest.mark.parametrize("field", ["newer", "without_secret", "unknown"])
def test_a_restore_names_the_devices_that_need_a_person_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str
) -> None:
    prepared(monkeypatch, **{field: ["iotdevice-lamp-abcd1234"]})
    (tmp_path / "b").touch()
    done = mdm("restore", tmp_path / "b")
    assert done.exit_code == 1
    assert "iotdevice-lamp-abcd1234" in done.stdout
    assert "reissue" in done.stderr


def test_a_restore_is_of_all_parts_unless_some_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = prepared(monkeypatch)
    (tmp_path / "b").touch()
    assert mdm("restore", tmp_path / "b").exit_code == 0
    assert (seen["parts"], seen["replace"]) == (frozenset(Part), False)
    assert mdm("restore", tmp_path / "b", "--only", "broker", "--only", "images", "--replace").exit_code == 0
    assert (seen["parts"], seen["replace"]) == ({Part.BROKER, Part.IMAGES}, True)


def test_what_is_wrong_is_named_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = prepared(monkeypatch)
    absent = mdm("restore", tmp_path / "absent")
    assert (absent.exit_code, "cannot be read" in absent.stderr) == (2, True)
    monkeypatch.delenv("MDM_DATABASE_URL")
    for command in ("backup", "restore"):
        done = mdm(command, tmp_path / "b")
        assert (done.exit_code, done.stderr[:24]) == (2, "error: MDM_DATABASE_URL:")
    assert seen == {}


def test_a_passphrase_is_typed_twice_or_comes_on_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = prepared(monkeypatch)
    monkeypatch.delenv("MDM_BACKUP_PASSPHRASE")
    assert mdm("backup", tmp_path / "b", typed=f"{PASSPHRASE}\n").exit_code == 0
    assert seen["passphrase"] == PASSPHRASE
    monkeypatch.setattr(passwords, "is_terminal", lambda: True)
    typed = iter([PASSPHRASE, "another"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    with pytest.raises(InvalidInputError, match="the two entries differ"):
        passwords.read("passphrase", variable="MDM_BACKUP_PASSPHRASE", twice=True)
