"""`mdm firmware inspect` and `sign`: what works on files alone."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.client import AnswerError
from shared.esp32 import ed25519
from shared.esp32 import signature as image_signature
from shared.esp32.chips import CHIP_IDS
from shared.protocol import admin
from tests import secure_boot
from tests.signing import private_pem, public_pem
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run
from tests.unit.firmware import images

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the tool nothing to connect with."""
    for name in ("MDM_HOST", "MDM_ACCOUNT", "MDM_PASSWORD"):
        monkeypatch.delenv(name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "app.bin"
    file.write_bytes(images.build())
    return file


@pytest.fixture
def private(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    file.write_bytes(private_pem(KEY))
    return file


@pytest.fixture
def public(tmp_path: Path) -> Path:
    file = tmp_path / "public.pem"
    file.write_bytes(public_pem(KEY))
    return file


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("chip", CHIP_IDS)
def test_inspect_shows_the_metadata_of_an_image(mdm: Run, tmp_path: Path, chip: str) -> None:
    file = tmp_path / "app.bin"
    file.write_bytes(images.build(chip_id=CHIP_IDS[chip]))
    shown = mdm("firmware", "inspect", str(file))
    assert shown.exit_code == 0
    facts = dict(line.split("  ", 1) for line in shown.stdout.splitlines())
    assert {name: value.strip() for name, value in facts.items()}.items() >= {
        "chip": chip,
        "embedded version": "1.2.3",
        "project": "sensor",
        "min chip revision": "v0.0",
        "max chip revision": "v3.99",
        "entry point": "0x40081234",
        "segments": "296 bytes to 0x3f400020, 36 bytes to 0x3f410020",
    }.items()


def test_inspect_as_json_has_all_facts(mdm: Run, image: Path) -> None:
    facts = json.loads(mdm("--json", "firmware", "inspect", str(image)).stdout)
    assert (facts["chip"], facts["secure_version"], facts["signatures"]) == ("esp32", 7, [])
    assert facts["app_sha256"] == image.read_bytes()[-32:].hex()
    assert facts["size_bytes"] == image.stat().st_size
    assert facts["segments"][0] == {"offset": 32, "size_bytes": 296, "load_address": 0x3F400020}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "error: size_bytes: expected at least 24, a header, found 0\n"),
        (images.build(magic=0x7F), "error: magic: expected 0xE9, an ESP32 image, found 0x7F\n"),
        (images.build(chip_id=4711), "error: chip_id: expected one of 0 (esp32), 2 (esp32s2), "),
        (images.build(checksum=0), "error: checksum: expected 0x"),
    ],
)
def test_inspect_names_the_field_what_was_found_and_what_was_expected(
    mdm: Run, tmp_path: Path, data: bytes, line: str
) -> None:
    file = tmp_path / "app.bin"
    file.write_bytes(data)
    shown = mdm("firmware", "inspect", str(file))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(line)
    assert ", found " in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_inspect_shows_signatures_for_secure_boot_with_the_digests_of_their_keys(mdm: Run, tmp_path: Path) -> None:
    file = tmp_path / "app.bin"
    file.write_bytes(secure_boot.sign(images.build(revisions=(301, 0)), "p256"))
    shown = mdm("firmware", "inspect", str(file)).stdout
    assert f"Secure Boot V2, ECDSA P-256, key {secure_boot.key_digest('p256')}" in shown
    assert re.search(r"min chip revision +v3\.1\nmax chip revision +any\n", shown)
    file.write_bytes(secure_boot.sign(images.build(), "p256", version=1))
    assert (
        "Secure Boot V1, ECDSA P-256, its key is not in the file" in mdm("firmware", "inspect", str(file)).stdout
    )


@pytest.mark.usefixtures("no_connection")
def test_sign_writes_the_signature_next_to_the_image(mdm: Run, image: Path, private: Path) -> None:
    shown = mdm("--json", "firmware", "sign", str(image), "--key", str(private))
    assert shown.exit_code == 0
    sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
    assert json.loads(shown.stdout) == {
        "signature": f"{image}.sig",
        "sha256": sha256,
        "version": "1.2.3",
        "fingerprint": image_signature.fingerprint(PUBLIC),
    }
    signature = image.with_name("app.bin.sig").read_bytes()
    assert image_signature.verifies(PUBLIC, sha256, signature)


def test_sign_replaces_a_file_only_if_it_must(mdm: Run, image: Path, private: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.sig"
    target.write_bytes(b"precious")
    words = ("firmware", "sign", str(image), "--key", str(private), "--output", str(target))
    refused = mdm(*words)
    assert (refused.exit_code, target.read_bytes()) == (1, b"precious")
    assert refused.stderr == f"error: --output: {target} exists; --force replaces it\n"
    assert mdm(*words, "--force").exit_code == 0
    assert len(target.read_bytes()) == ed25519.SIGNATURE_BYTES


def test_sign_refuses_what_is_no_image_or_no_key(mdm: Run, image: Path, public: Path, private: Path) -> None:
    no_key = mdm("firmware", "sign", str(image), "--key", str(public))
    assert (no_key.exit_code, no_key.stderr) == (2, "error: --key: must be an Ed25519 private key in PEM\n")
    image.write_bytes(images.build(checksum=0))
    no_image = mdm("firmware", "sign", str(image), "--key", str(private))
    assert (no_image.exit_code, no_image.stderr[:16]) == (2, "error: checksum:")
    assert not image.with_name("app.bin.sig").exists()


def test_upload_sends_the_signature(fake: fakes.FakeAdmin, mdm: Run, image: Path, private: Path) -> None:
    mdm("firmware", "sign", str(image), "--key", str(private))
    signature = image.with_name("app.bin.sig")
    fake.answers = {
        "firmware.upload.begin": admin.Upload(upload_id=UUID(int=1), chunk_size_bytes=1024, missing=[]),
        "firmware.upload.finish": fakes.image(signed_by="ab" * 32),
    }
    shown = mdm("firmware", "upload", str(image), "--model", "lamp", "--no-release", "--signature", str(signature))
    assert "abababababab" in shown.stdout
    finish = fake.requests[-1][1]
    assert isinstance(finish, admin.UploadFinish)
    assert (finish.signature, finish.release) == (signature.read_bytes(), False)
    signature.write_bytes(b"short")
    refused = mdm("firmware", "upload", str(image), "--model", "lamp", "--signature", str(signature))
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: --signature: expected 64 bytes, as `mdm firmware sign` writes them")


@pytest.mark.parametrize(
    ("words", "answer", "released"),
    [((), "y\n", True), (("--yes",), "", True), ((), "n\n", False), ((), "", False)],
)
def test_a_release_that_some_devices_would_not_take_is_asked_for(
    fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...], answer: str, *, released: bool
) -> None:
    refusal = admin.RolloutProblem(client_id="b", name="garage", reason="project: other", refuses=True)
    away = admin.RolloutProblem(client_id="c", name="", reason="has never been seen", refuses=False)
    fake.answers = {
        "firmware.rollout.preflight": fakes.findings(fit=5, count=2, refusing=1, problems=[refusal, away]),
        "firmware.image.release": fakes.image(),
    }
    shown = mdm("firmware", "release", "lamp", "1.2.3", *words, typed=answer)
    assert shown.stderr.startswith("6 of 7 devices would take lamp 1.2.3\ngarage would not: project: other\n")
    assert [name for name, _ in fake.requests].count("firmware.image.release") == released
    assert shown.exit_code == (0 if released else 1)
    assert ("1.2.3 is stored and not released" in shown.stderr) is not released


def test_the_app_in_a_merged_flash_image_is_uploaded_if_asked_for(
    fake: fakes.FakeAdmin, mdm: Run, image: Path, tmp_path: Path
) -> None:
    app, merged = image.read_bytes(), tmp_path / "merged.bin"
    table = struct.pack("<2sBBII16sI", b"\xaa\x50", 0, 0, 0x10000, 0x100000, b"factory", 0)
    merged.write_bytes((b"\xff" * 0x8000 + table).ljust(0x10000, b"\xff") + app)
    fake.answers["firmware.upload.begin"] = AnswerError("conflict", "enough", {})
    refused = mdm("firmware", "upload", str(merged), "--model", "lamp")
    assert (refused.exit_code, fake.requests) == (2, [])
    assert f"whose app is {len(app)} bytes at offset 0x10000" in refused.stderr
    mdm("firmware", "upload", str(merged), "--model", "lamp", "--extract-app")
    begin = fake.requests[0][1]
    assert isinstance(begin, admin.UploadBegin)
    assert begin.sha256 == hashlib.sha256(app).hexdigest()
    no_flash = mdm("firmware", "upload", str(image), "--model", "lamp", "--extract-app")
    assert (no_flash.exit_code, no_flash.stderr[:36]) == (2, "error: --extract-app: the file is no")


def test_a_public_key_is_sent_and_a_private_one_never(
    fake: fakes.FakeAdmin, mdm: Run, public: Path, private: Path
) -> None:
    view = admin.KeyView(fingerprint="cd" * 32, public_key="A" * 44, author="alice", created_at=fakes.NOW)
    fake.answers["firmware.key.add"] = admin.Keys(model="lamp", keys=[view])
    refused = mdm("firmware", "key", "add", "lamp", str(private))
    assert (refused.exit_code, fake.requests) == (2, [])
    assert refused.stderr.startswith("error: key: is a private key")
    shown = mdm("firmware", "key", "add", "lamp", str(public))
    assert "cd" * 32 in shown.stdout
    added = fake.requests[0][1]
    assert isinstance(added, admin.KeyAdd)
    assert added.public_key == PUBLIC


def test_keys_are_listed_and_removed(fake: fakes.FakeAdmin, mdm: Run) -> None:
    none = admin.Keys(model="lamp", keys=[])
    fake.answers = {"firmware.key.list": none, "firmware.key.remove": none}
    for words in (("list", "lamp"), ("remove", "lamp", "cd" * 32)):
        shown = mdm("firmware", "key", *words)
        assert (shown.exit_code, shown.stdout) == (0, "")
        assert shown.stderr == "lamp trusts no keys and accepts unsigned images\n"


@pytest.mark.parametrize("deed", ["release", "pin", "unpin"])
def test_an_image_is_named_by_model_and_version(fake: fakes.FakeAdmin, mdm: Run, deed: str) -> None:
    fake.answers[f"firmware.image.{deed}"] = fakes.image(pinned=True)
    fake.answers["firmware.rollout.preflight"] = fakes.findings()
    shown = mdm("firmware", deed, "lamp", "1.2.3")
    assert fake.requests[-1][1].model_dump(exclude={"request_id"}) == {"model": "lamp", "version": "1.2.3"}
    assert shown.stdout.splitlines()[1].split()[:5] == ["lamp", "1.2.3", "current,", "pinned", "no"]


def test_what_is_deleted_or_withdrawn_is_named(fake: fakes.FakeAdmin, mdm: Run) -> None:
    removed = admin.Removed(removed="1.2.3")
    fake.answers = {"firmware.image.delete": removed, "firmware.image.withdraw": removed}
    assert mdm("firmware", "delete", "lamp", "1.2.3").stdout == "removed  1.2.3\n"
    withdrawn = "lamp has no image any more; 1.2.3 stays stored, and on its devices\n"
    assert mdm("firmware", "withdraw", "lamp").stdout == withdrawn


def test_a_refused_deletion_is_one_line_with_the_reasons(fake: fakes.FakeAdmin, mdm: Run) -> None:
    reason = "VERSION: lamp 1.2.3 is in use: 2 devices run it"
    fake.answers["firmware.image.delete"] = AnswerError("conflict", reason, {})
    refused = mdm("firmware", "delete", "lamp", "1.2.3")
    assert (refused.exit_code, refused.stderr) == (1, f"error: {reason}\n")


def test_show_has_all_facts_of_an_image(fake: fakes.FakeAdmin, mdm: Run) -> None:
    facts = fakes.image().model_dump()
    details = admin.ImageDetails(**facts, uploaded_by="alice", running=3, delivering=1)
    fake.answers["firmware.image.show"] = details
    shown = mdm("firmware", "show", "lamp", "1.2.3").stdout
    assert {("running", "3"), ("delivering", "1"), ("by", "alice")} <= {
        tuple(line.split()) for line in shown.splitlines()
    }
    assert json.loads(mdm("--json", "firmware", "show", "lamp", "1.2.3").stdout) == details.model_dump(mode="json")


def test_list_reads_all_pages(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def page(request: admin.ImageList) -> admin.Images:
        if request.after is None:
            return admin.Images(images=[fakes.image(version="2")], next="lamp/" + "ab" * 32)
        return admin.Images(images=[fakes.image(version="1", signature="A" * 88)])

    fake.answers["firmware.image.list"] = page
    shown = mdm("firmware", "list", "--model", "lamp").stdout.splitlines()
    assert [line.split()[1] for line in shown] == ["VERSION", "2", "1"]
    assert "untrusted" in shown[2]
    assert max(map(len, shown)) <= 80
    assert [request.model_dump()["model"] for _, request in fake.requests] == ["lamp", "lamp"]


def test_a_release_to_several_devices_is_asked_for(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers |= {
        "firmware.rollout.preflight": fakes.findings(fit=2),
        "firmware.image.release": fakes.image(),
    }
    refused = mdm("firmware", "release", "lamp", "1.2.3", typed="n\n")
    assert "2 of 2 devices would take lamp 1.2.3\nrelease lamp 1.2.3? [y/N]" in refused.stderr
    assert (refused.exit_code, fake.sent("firmware.image.release")) == (1, [])
    assert mdm("firmware", "release", "lamp", "1.2.3", "--yes").exit_code == 0
    fake.answers["firmware.rollout.preflight"] = fakes.findings(fit=1)
    assert mdm("firmware", "release", "lamp", "1.2.3").exit_code == 0
