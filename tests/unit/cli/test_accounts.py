"""`mdm admin` and `mdm login`, without a broker."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import client, main, passwords, profile
from shared.protocol import admin
from shared.protocol.admin import Role
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

ALICE = admin.AccountView(name="alice", role=Role.VIEWER, author="admin", created_at=fakes.NOW, present=False)
ME = admin.WhoAmI(account="alice", role=Role.OPERATOR)


def test_an_account_is_handed_out_as_a_profile_with_a_new_password(
    mdm: Run, fake: fakes.FakeAdmin, tmp_path: Path
) -> None:
    fake.answers["registry.account.add"] = ALICE
    target = tmp_path / "alice.toml"
    done = mdm("admin", "add", "alice", "--role", "viewer", "--output", str(target))
    assert done.exit_code == 0, done.stderr
    ((_, request),) = fake.requests
    assert isinstance(request, admin.AccountAdd)
    written = profile.resolve(target, {})
    assert (written.account, written.host) == ("alice", "broker.test")
    assert written.password.get_secret_value() == request.password
    assert request.password not in done.output
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_existing_file_is_not_replaced_and_no_request_is_sent(
    mdm: Run, fake: fakes.FakeAdmin, tmp_path: Path
) -> None:
    target = tmp_path / "alice.toml"
    target.touch()
    for words in (("add", "alice", "--role", "viewer"), ("password", "alice")):
        assert mdm("admin", *words, "--output", str(target)).exit_code == 1
    assert fake.requests == []


@pytest.mark.parametrize("name", ["admin", "svc-registry", "iotdevice-x-abcd1234", "claim-x", "a/b", "#"])
def test_a_name_that_is_anothers_is_refused_before_anything_is_sent(
    mdm: Run, fake: fakes.FakeAdmin, tmp_path: Path, name: str
) -> None:
    done = mdm("admin", "add", name, "--role", "admin", "--output", str(tmp_path / "x"))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: NAME: ")
    assert fake.requests == []


def test_accounts_are_listed_with_what_the_broker_lost(mdm: Run, fake: fakes.FakeAdmin) -> None:
    fake.answers["registry.account.list"] = admin.Accounts(accounts=[ALICE])
    assert mdm("admin", "list").stdout.splitlines()[1].split()[:3] == ["alice", "viewer", "no"]
    fake.answers["registry.account.list"] = admin.Accounts(accounts=[])
    assert "built-in" in mdm("admin", "list").stderr


def test_the_password_of_a_login_comes_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, fake: fakes.FakeAdmin
) -> None:
    monkeypatch.delenv("MDM_PASSWORD")
    fake.answers["registry.account.whoami"] = ME
    done = CliRunner().invoke(main.app, ["login", "--json"], prog_name="mdm", input="of alice\n")
    place = profile.default_path()
    assert json.loads(done.stdout) == {"account": "alice", "role": "operator", "profile": str(place)}
    assert profile.resolve(place, {}).password.get_secret_value() == "of alice"
    nothing = CliRunner().invoke(main.app, ["login"], prog_name="mdm", input="")
    assert (nothing.exit_code, nothing.stderr[:16]) == (2, "error: password:")


def test_a_prompt_asks_for_missing_settings_with_the_profiles_as_defaults(
    monkeypatch: pytest.MonkeyPatch, fake: fakes.FakeAdmin
) -> None:
    for name in ("MDM_HOST", "MDM_ACCOUNT", "MDM_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(passwords, "is_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: "typed")
    fake.answers["registry.account.whoami"] = ME
    for typed in ("broker.example\n\nalice\n", "\n\n\n"):
        done = CliRunner().invoke(main.app, ["login"], prog_name="mdm", input=typed)
        assert done.exit_code == 0, done.stderr
        kept = profile.resolve(profile.default_path(), {})
        assert (kept.host, kept.port, kept.account) == ("broker.example", 1883, "alice")


def test_a_login_is_kept_when_only_the_role_is_not_known(mdm: Run, fake: fakes.FakeAdmin) -> None:
    fake.answers["registry.account.whoami"] = client.NoAnswerError("no answer")
    done = mdm("login")
    assert done.exit_code == 0
    assert "the role is unknown: no answer" in done.stderr
    assert profile.resolve(profile.default_path(), {}).account == "alice"


def test_a_login_that_is_refused_is_not_kept(mdm: Run, fake: fakes.FakeAdmin) -> None:
    fake.answers["registry.account.whoami"] = client.CannotConnectError("cannot connect")
    assert mdm("login").exit_code == 3
    assert not profile.default_path().exists()
