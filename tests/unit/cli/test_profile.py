import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from cli import profile
from cli.profile import Profile, ProfileError

FULL = Profile(
    host="broker.test",
    port=8884,
    account="alice",
    password=SecretStr('pass "word" \\ \x7f ü'),
    ca_file=Path("/etc/ca.pem"),
)


@pytest.mark.parametrize("name", ["profile.toml", "profile.json", "profile"])
def test_a_saved_profile_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / "made" / name
    FULL.save(path)
    assert profile.resolve(path, {}) == FULL


def test_a_saved_profile_is_for_its_owner_only_even_where_one_was_open_to_all(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text("")
    path.chmod(0o666)
    FULL.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["profile.toml"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_password_survives_the_file(tmp_path: Path, password: str) -> None:
    for name in ("profile.toml", "profile.json"):
        FULL.model_copy(update={"password": SecretStr(password)}).save(tmp_path / name)
        assert profile.resolve(tmp_path / name, {}).password.get_secret_value() == password


def test_the_password_is_not_shown() -> None:
    assert 'pass "' not in f"{FULL!r} {FULL} {FULL.model_dump_json()}"


def test_what_is_given_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    FULL.save(path)
    resolved = profile.resolve(path, {"host": "other.test", "account": None})
    assert (resolved.host, resolved.account) == ("other.test", "alice")


def test_the_default_place_is_read_when_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    FULL.save(tmp_path / "mdm" / "profile.toml")
    assert profile.resolve(None, {}) == FULL


def test_the_default_place_is_below_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile.default_path() == tmp_path / ".config" / "mdm" / "profile.toml"


def test_a_file_is_not_needed() -> None:
    resolved = profile.resolve(None, {"host": "h", "account": "a", "password": "p"})
    assert (resolved.port, resolved.tls_context()) == (1883, None)


def test_with_tls_the_port_is_8883() -> None:
    given = {"host": "h", "account": "a", "password": "p"}
    assert profile.resolve(None, {**given, "tls": True}).port == 8883
    assert profile.resolve(None, {**given, "ca_file": Path("/ca.pem")}).port == 8883
    assert profile.resolve(None, {**given, "tls": True, "port": 1}).port == 1


def test_a_relative_ca_file_is_next_to_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    FULL.model_copy(update={"ca_file": Path("ca.pem")}).save(path)
    assert profile.resolve(path, {}).ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_password_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "profile.toml"
    FULL.save(path)
    path.chmod(mode)
    with pytest.raises(ProfileError, match=rf"must have mode 0600, has {mode:04o}; run chmod 600 {path}"):
        profile.resolve(path, {})


def test_a_file_without_a_password_may_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text('host = "h"\naccount = "a"\n')
    path.chmod(0o644)
    assert profile.resolve(path, {"password": "p"}).host == "h"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.toml", "host = ", "is not valid "),
        ("p.json", "{", "is not valid "),
        ("p.json", "[]", "must contain names and values"),
        ("p.toml", b"\xff", "is not valid "),
        ("p.toml", 'hots = "x"', "has the unknown key hots; there are host, port"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProfileError) as caught:
        profile.resolve(path, {})
    assert message in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 0}, "port: "),
        ({"port": 65536}, "port: "),
        ({"host": ""}, "host: "),
        ({"account": "a/b"}, "account: "),
        ({"account": "#"}, "account: "),
        ({"hots": "x"}, ".* has the unknown key hots"),
    ],
)
def test_a_bad_field_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=f"profile: {message}"):
        profile.resolve(None, {"host": "h", "account": "a", "password": "p", **given})


def test_a_given_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        profile.resolve(tmp_path / "none.toml", {"host": "h", "account": "a", "password": "p"})


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(ProfileError, match=f"ca_file: {path} cannot be read as PEM"):
        FULL.model_copy(update={"ca_file": path}).tls_context()


def test_the_systems_authorities_can_be_selected() -> None:
    assert FULL.model_copy(update={"ca_file": None, "tls": True}).tls_context() is not None
