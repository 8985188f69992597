import json
import stat
from pathlib import Path

import pytest

from cli import durations
from shared.errors import InvalidInputError
from shared.protocol import admin
from tests import nvs_reader
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

VIEW = admin.ClaimView(
    claim="claim-abcd1234",
    model="lamp",
    tags=["attic"],
    uses=5,
    used=2,
    waiting=1,
    needs_approval=True,
    state="live",
    expires_at=fakes.NOW,
    author="alice",
    created_at=fakes.NOW,
)


def added(request: admin.ClaimAdd) -> admin.ClaimAdded:
    del request
    return admin.ClaimAdded(
        **VIEW.model_dump(), mqtt_host="broker.test", mqtt_port=8884, mqtt_tls=True, ca_certificate=None
    )


def machine(uid: str, **facts: object) -> admin.ClaimRequestView:
    usual = {
        "uid": uid,
        "claim": "claim-abcd1234",
        "model": "lamp",
        "state": "pending",
        "client_id": None,
        "requested_at": fakes.NOW,
        "granted_at": None,
    }
    return admin.ClaimRequestView.model_validate(usual | facts)


def test_create_writes_the_password_that_it_made_for_the_owner_only(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path
) -> None:
    fake.answers["registry.claim.add"] = added
    target = tmp_path / "claim.json"
    result = mdm(
        *("claim", "create", "--model", "lamp", "--tag", "attic", "--uses", "5", "--expires", "30m", "--approval"),
        *("--output", str(target)),
    )
    assert result.exit_code == 0, result.stderr
    ((_, request),) = fake.requests
    assert isinstance(request, admin.ClaimAdd)
    assert request.model_dump(exclude={"request_id", "password"}) == {
        "model": "lamp",
        "tags": ["attic"],
        "uses": 5,
        "expires_in_s": 1800,
        "needs_approval": True,
    }
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    package = json.loads(target.read_text())
    assert (package["format"], package["account"], package["mqtt_port"]) == ("mdm-claim/1", "claim-abcd1234", 8884)
    assert package["password"] == request.password
    assert request.password not in result.stdout + result.stderr + repr(request)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--expires", "1 day"), "expires: must be a whole number with s, m, h or d"),
        (("--expires", "0d"), "--expires: must be at least 1"),
        (("--expires", "366d"), "--expires: must be at most 31536000"),
        (("--uses", "100001"), "uses: must be at most 100000"),
    ],
)
def test_create_names_what_breaks_a_rule(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    target = tmp_path / "claim.json"
    result = mdm("claim", "create", "--model", "lamp", "--output", str(target), *words)
    assert (result.exit_code, fake.requests) == (2, [])
    assert message in result.stderr
    assert not target.exists()


def test_create_writes_an_nvs_image_with_the_network_to_join_first(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path
) -> None:
    fake.answers["registry.claim.add"] = added
    target = tmp_path / "claim.bin"
    words = ("claim", "create", "--model", "lamp", "--output", str(target), "--format", "nvs", "--size", "0x20000")
    result = mdm(*words, "--wifi-ssid", "factory")
    assert result.exit_code == 0, result.stderr
    ((_, request),) = fake.requests
    found = nvs_reader.read(target.read_bytes())["mdm"]
    claim = found.pop("claim")
    assert isinstance(claim, bytes)
    assert isinstance(request, admin.ClaimAdd)
    package = admin.ClaimPackage.model_validate_json(claim)
    assert (package.account, package.password) == ("claim-abcd1234", request.password)
    assert found == {"wifi_ssid": "factory", "wifi_pass": ""}
    assert (len(target.read_bytes()), stat.S_IMODE(target.stat().st_mode)) == (0x20000, 0o600)


def test_create_makes_no_claim_for_options_that_do_not_fit(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path
) -> None:
    target = tmp_path / "claim.json"
    result = mdm("claim", "create", "--model", "lamp", "--output", str(target), "--wifi-ssid", "factory")
    assert result.exit_code == 2
    assert result.stderr == "error: --wifi-ssid, --wifi-password-file: require --format nvs or csv\n"
    assert (fake.requests, target.exists()) == ([], False)


def test_create_keeps_a_file_that_is_there(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    target = tmp_path / "claim.json"
    target.write_text("mine")
    result = mdm("claim", "create", "--model", "lamp", "--output", str(target))
    assert (result.exit_code, fake.requests, target.read_text()) == (1, [], "mine")


def test_list_is_a_table(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.claim.list"] = admin.ClaimViews(claims=[VIEW])
    heading, line = mdm("claim", "list").stdout.splitlines()
    assert heading.split() == ["CLAIM", "MODEL", "TAGS", "STATE", "USED", "WAITING", "APPROVAL", "EXPIRES", "BY"]
    assert line.split() == [
        "claim-abcd1234",
        "lamp",
        "attic",
        "live",
        "2",
        "of",
        "5",
        "1",
        "yes",
        "2025-02-01",
        "12:34:56Z",
        "alice",
    ]


def test_requests_reads_all_pages(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def page(request: admin.ClaimRequests) -> admin.ClaimRequestViews:
        if request.after is None:
            return admin.ClaimRequestViews(requests=[machine("00" * 6)], next="00" * 6)
        return admin.ClaimRequestViews(requests=[machine("01" * 6, client_id="iotdevice-lamp-abcd1234")])

    fake.answers["registry.claim.requests"] = page
    result = mdm("--json", "claim", "requests", "claim-abcd1234", "--state", "pending")
    assert [found["uid"] for found in json.loads(result.stdout)["requests"]] == ["00" * 6, "01" * 6]
    assert [request.after for _, request in fake.requests if isinstance(request, admin.ClaimRequests)] == [
        None,
        "00" * 6,
    ]
    assert "iotdevice-lamp-abcd1234" in mdm("claim", "requests").stdout


@pytest.mark.parametrize("words", [("claim", "list"), ("claim", "requests")])
def test_an_empty_list_prints_how_to_start(fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...]) -> None:
    fake.answers["registry.claim.list"] = admin.ClaimViews(claims=[])
    fake.answers["registry.claim.requests"] = admin.ClaimRequestViews(requests=[])
    result = mdm(*words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert " yet; `mdm claim create" in result.stderr


@pytest.mark.parametrize(
    ("words", "operation", "answer"),
    [
        (("revoke", "claim-abcd1234"), "registry.claim.revoke", VIEW),
        (("approve", "0123456789ab"), "registry.claim.approve", machine("0123456789ab")),
        (("deny", "0123456789abcdef"), "registry.claim.deny", machine("0123456789abcdef")),
        (("forget", "0123456789ab"), "registry.claim.forget", admin.Removed(removed="0123456789ab")),
    ],
)
def test_a_change_of_one_is_requested_and_printed(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], operation: str, answer: admin.Result
) -> None:
    fake.answers[operation] = answer
    result = mdm("claim", *words)
    assert result.exit_code == 0
    ((name, request),) = fake.requests
    assert name == operation
    assert words[1] in request.model_dump().values()
    assert words[1] in result.stdout


@pytest.mark.parametrize("uid", ["0123456789AB", "01:23:45:67:89:ab", "0123456789a", "0123456789abcdef0"])
def test_a_uid_is_hexadecimal_digits_in_lower_case(fake: fakes.FakeAdmin, mdm: Run, uid: str) -> None:
    result = mdm("claim", "approve", uid)
    assert (result.exit_code, fake.requests) == (2, [])
    assert result.stderr.startswith("error: UID: ")


@pytest.mark.parametrize(("text", "expected"), [("1s", 1), ("30m", 1800), ("12h", 43200), ("1d", 86400)])
def test_a_duration_is_seconds(text: str, expected: int) -> None:
    assert durations.seconds(text, field="expires") == expected


@pytest.mark.parametrize(
    "text", ["", "1", "d", "1.5h", "-1d", "1d ", "1D", "\N{ARABIC-INDIC DIGIT ONE}d", "1d12h", "9999999999s"]
)
def test_what_is_no_duration_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInputError, match="expires: must be a whole number with s, m, h or d"):
        durations.seconds(text, field="expires")
