from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
import structlog
from joserfc.jwk import OKPKey
from pydantic import SecretStr

from device import __main__ as command_line
from device import claim, key
from device.claim import Machine
from shared import crypto
from shared.errors import InvalidInputError
from shared.protocol.admin import ClaimPackage
from shared.protocol.messages import ClaimAnswer, ClaimOutcome
from tests.unit.device.kit import EPOCH, package

UID = "a0b1c2d3e4f5"
CLAIM = ClaimPackage(
    account="claim-abcd1234",
    password="p" * 43,
    mqtt_host="127.0.0.1",
    mqtt_port=1,
    mqtt_tls=False,
    ca_certificate=None,
    expires_at=EPOCH,
)


def granted(text: str, key: OKPKey) -> ClaimAnswer:
    sealed = crypto.seal(SecretStr(text), crypto.public_half(key))
    return ClaimAnswer(uid=UID, outcome=ClaimOutcome.GRANTED, jwe=sealed)


def test_only_a_package_that_is_sealed_for_the_machine_is_taken() -> None:
    key, other = OKPKey.generate_key("X25519"), OKPKey.generate_key("X25519")
    good = package()
    assert claim._opened(granted(good.model_dump_json(), key), key) == good
    assert claim._opened(granted(good.model_dump_json(), other), key) is None
    assert claim._opened(granted("{}", key), key) is None
    assert claim._opened(granted(package(mqtt_port=0).model_dump_json(), key), key) is None
    assert claim._opened(ClaimAnswer(uid=UID, outcome=ClaimOutcome.PENDING), key) is None


async def test_a_machine_with_a_package_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / claim.PACKAGE_FILE).write_text(package().model_dump_json())
    assert await Machine(CLAIM, UID, tmp_path).package() == package()


@pytest.mark.parametrize("uid", ["", "A0B1C2D3E4F5", "a0b1c2d3e4f", "a0:b1:c2:d3:e4:f5", f"{UID}\n"])
async def test_a_bad_uid_is_refused_before_anything_is_made(tmp_path: Path, uid: str) -> None:
    with pytest.raises(InvalidInputError, match="uid: must be 12 or 16 hexadecimal digits"):
        await Machine(CLAIM, uid, tmp_path / "state").package()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        ((), None, "cannot be read"),
        ((), json.dumps({"format": "mdm-claim/1", "password": "hush"}), "account: is missing"),
        (
            (),
            CLAIM.model_dump_json().replace("claim-abcd1234", "iotdevice-a-b"),
            "account: must be a claim, such as",
        ),
        (("--uid", "nothing"), CLAIM.model_dump_json(), "uid: must be 12 or 16 hexadecimal digits"),
    ],
)
def test_the_command_line_names_what_is_wrong_with_a_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], content: str | None, message: str
) -> None:
    path = tmp_path / "claim.json"
    if content is not None:
        path.write_text(content)
    try:
        arguments = ["--claim", str(path), "--state", str(tmp_path / "state"), "--uid", UID, *words]
        assert command_line.main(arguments) == 2
    finally:
        structlog.reset_defaults()
    shown = capsys.readouterr().err
    assert message in shown
    assert "hush" not in shown


@pytest.mark.parametrize("words", [["--claim", "c.json"], ["--package", "p.json", "--uid", UID]])
def test_claim_and_uid_belong_together(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    try:
        assert command_line.main(words) == 2
    finally:
        structlog.reset_defaults()
    assert "--uid: must be given together with --claim" in capsys.readouterr().err


async def test_a_machine_that_waits_for_its_identity_ends_when_told(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    path.write_text(CLAIM.model_dump_json())
    arguments = ("--claim", str(path), "--uid", UID, "--state", str(tmp_path / "state"), "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device", *arguments), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"claim.lost" not in await process.stderr.readline():
            assert process.returncode is None
        process.terminate()
        assert await process.wait() == 0
    assert (tmp_path / "state" / key.KEY_FILE).exists()
    assert not (tmp_path / "state" / claim.PACKAGE_FILE).exists()
