from pathlib import Path
from typing import Any

import pytest

from cli import passwords
from cli.connection_text import progress
from shared.protocol import admin
from shared.protocol.messages import WifiNetwork
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

OLD, NEW = "0" * 16, "1" * 16
PASSWORD = "correct horse"
EFFECT = admin.ConnectionEffect(number=None, changed=True, devices=3, moving=2, unable=1)


def effect(request: Any) -> admin.ConnectionEffect:  # noqa: ANN401 - of three operations
    return EFFECT if request.dry_run else EFFECT.model_copy(update={"number": 7})


def test_set_says_what_moves_asks_and_sends_only_what_is_given(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.connection.set"] = effect
    result = mdm("connection", "set", "--tag", "attic", "--host", "new.test", "--no-tls", typed="y\n")
    assert result.exit_code == 0, result.stderr
    assert "3 devices want another profile by this; 2 of them move" in result.stderr
    assert "1 of them cannot: they have never reported a profile" in result.stderr
    assert result.stdout.endswith("layer 7 is in force; see `mdm connection status`\n")
    sent = [request.model_dump(exclude={"request_id"}, exclude_defaults=True) for _, request in fake.requests]
    given = {"tag": "attic", "mqtt_host": "new.test", "mqtt_tls": False}
    assert sent == [given | {"dry_run": True}, given]


def test_set_changes_nothing_without_consent_or_with_dry_run(fake: fakes.FakeAdmin, mdm: Run) -> None:
    warned = EFFECT.model_copy(update={"warnings": ["the profile's authorities do not verify it"]})
    fake.answers["registry.connection.set"] = warned
    for words, typed, status in ((("--port", "1"), "n\n", 2), (("--port", "1", "--dry-run"), "", 0)):
        fake.requests.clear()
        result = mdm("connection", "set", "--all", *words, typed=typed)
        assert result.exit_code == status
        assert "warning: the profile's authorities do not verify it" in result.stdout + result.stderr
        assert [request.dry_run for _, request in fake.requests if isinstance(request, admin.ConnectionSet)] == [
            True
        ]


def test_networks_are_asked_for_or_read_in_their_order_and_never_shown(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["registry.connection.set"] = effect
    (tmp_path / "one").write_text(f"{PASSWORD}\n")
    (tmp_path / "open").write_text("")
    words = ("connection", "set", "--all", "--yes", "--wifi", "home", "--wifi", "guest")
    files = ("--wifi-password-file", str(tmp_path / "one"), "--wifi-password-file", str(tmp_path / "open"))
    result = mdm(*words, *files)
    wanted = [WifiNetwork(ssid="home", password=PASSWORD), WifiNetwork(ssid="guest")]
    assert (result.exit_code, networks(fake)) == (0, wanted)
    monkeypatch.setattr(passwords, "is_terminal", lambda: True)
    typed = iter([PASSWORD, ""])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    result = mdm(*words)
    assert (result.exit_code, networks(fake)) == (0, wanted)
    assert PASSWORD not in result.stdout + result.stderr + repr(fake.requests)


def networks(fake: fakes.FakeAdmin) -> object:
    request = fake.requests[-1][1]
    assert isinstance(request, admin.ConnectionSet)
    return request.wifi


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--host", "x"), "exactly one of --all, --tag and --device must be given"),
        (("--all", "--tag", "t", "--host", "x"), "exactly one of --all, --tag and --device must be given"),
        (("--all", "--wifi", "home"), "--wifi-password-file: must be given where nobody can be asked"),
        (("--all", "--wifi", ""), "wifi_ssid: must be 1 to 32 bytes of UTF-8, without NUL"),
        (
            ("--all", "--wifi", "a", "--wifi", "b", "--wifi-password-file", "-"),
            "--wifi-password-file: must be given once for each --wifi: 2 times",
        ),
        (("--all", "--auth", "magic"), "--auth: must be 'password' or 'token'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], error: str
) -> None:
    result = mdm("connection", "set", *words)
    assert (result.exit_code, result.stderr) == (2, f"error: {error}\n")
    assert fake.requests == []


def test_status_fits_80_columns_and_draws_the_conclusions(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def authority(subject: str, alone: int, claims: list[str]) -> admin.AuthorityUse:
        return admin.AuthorityUse(
            subject=subject, fingerprint="ab", ends_at=fakes.NOW, devices=120, alone=alone, claims=claims
        )

    use = admin.ProfileUse(
        connection_id=NEW,
        known=True,
        mqtt_host="broker.example.org",
        mqtt_port=8883,
        authorities=["CN=old", "CN=new"],
        in_use=117,
        fallback=2,
        waiting=3,
        refused=1,
    )
    lost = admin.ProfileUse(connection_id=OLD, known=False, in_use=3, fallback=117, waiting=0, refused=0)
    fake.answers["registry.connection.status"] = admin.ConnectionStatus(
        profiles=[use, lost],
        more=0,
        authorities=[authority("CN=old", 3, ["claim-abcd1234"]), authority("CN=new", 0, [])],
        as_provisioned=2,
        without_package=1,
        on_fallback=1,
    )
    shown = mdm("connection", "status")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    table = lines[:6]
    assert max(map(len, table)) <= 80, table
    assert "broker.example.org:8883, 2 CAs" in lines[1]
    assert "not known to this database" in lines[2]
    assert lines[-6:] == [
        "3 devices trust CN=old alone.",
        "Open claims whose packages trust CN=old alone: claim-abcd1234.",
        "Nobody depends on CN=new any more, as far as is known.",
        "2 devices have never reported a profile: counted by their package.",
        "Nothing is known of 1 device whose package is older than profiles.",
        "1 device runs on its fallback: see `mdm doctor`.",
    ]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"progress": "in use", "in_use": NEW}, f"{NEW}, as wanted"),
        ({"progress": "as provisioned"}, "that of its package; it has never reported one"),
        ({"progress": "waiting", "in_use": OLD}, f"{OLD} -> {NEW} (not sent yet)"),
        (
            {"progress": "waiting", "in_use": OLD, "sent_id": NEW, "sent_at": fakes.NOW},
            f"{OLD} -> {NEW} (sent 2025-02-01 12:34:56Z)",
        ),
        (
            {
                "progress": "refused",
                "in_use": OLD,
                "refused_outcome": "reverted",
                "refused_at": fakes.NOW,
                "refused_reason": "no answer",
            },
            f"{OLD} -> {NEW} (reverted since 2025-02-01 12:34:56Z: no answer)",
        ),
        (
            {"progress": "fallback", "in_use": OLD, "first": NEW},
            f"{OLD} -> {NEW}; it cannot connect with {NEW}, and uses the former one",
        ),
    ],
)
def test_a_device_shows_what_it_uses_and_why_not_what_is_wanted(
    fake: fakes.FakeAdmin, mdm: Run, facts: dict[str, object], text: str
) -> None:
    usual = dict.fromkeys(admin.DeviceConnectionView.model_fields)
    device = admin.DeviceConnectionView.model_validate({**usual, "wanted": NEW, **facts})
    assert progress(device) == text
    details = admin.DeviceDetails(**dict(fakes.device()), connection=device)
    fake.answers["registry.device.show"] = details
    (line,) = [one for one in mdm("device", "show", "x").stdout.splitlines() if one.startswith("connection")]
    assert text in line


def test_history_is_a_table_without_certificates(fake: fakes.FakeAdmin, mdm: Run) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    layer = admin.ConnectionLayerView(
        number=3,
        scope="tag",
        tag="attic",
        client_id=None,
        priority=0,
        document={"ca_certificate": pem * 2, "wifi": [{"ssid": "home", "id": "x"}, {"ssid": "guest", "id": "y"}]},
        trial_seconds=60,
        removed=False,
        in_force=True,
        author="alice",
        created_at=fakes.NOW,
    )
    gone = layer.model_copy(update={"number": 2, "removed": True, "in_force": False})
    fake.answers["registry.connection.history"] = admin.ConnectionLayerViews(layers=[layer, gone])
    lines = mdm("connection", "history").stdout.splitlines()
    assert "3 *" in lines[1]
    assert "ca_certificate=2 CAs, wifi=home+guest, trial_seconds=60" in lines[1]
    assert "removed" in lines[2]
