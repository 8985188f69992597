"""Models that trust keys: what is not signed by one of them is neither stored nor released."""

from __future__ import annotations

import base64
import hashlib
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.client import AnswerError
from dev.fleet import Fleet
from dev.uploads import build, upload, versions
from shared.esp32 import signature as image_signature
from shared.protocol import admin


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def fingerprint(key: Ed25519PrivateKey) -> str:
    return image_signature.fingerprint(raw(key))


def sign(key: Ed25519PrivateKey, image: bytes) -> bytes:
    return image_signature.sign(key, hashlib.sha256(image).hexdigest())


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def trust(fleet: Fleet, model: str, key: Ed25519PrivateKey) -> admin.Keys:
    return await fleet.ask(admin.KEY_ADD, model=model, public_key=base64.b64encode(raw(key)))


async def distrust(fleet: Fleet, model: str, key: Ed25519PrivateKey) -> admin.Keys:
    return await fleet.ask(admin.KEY_REMOVE, model=model, fingerprint=fingerprint(key))


@pytest.fixture
async def key(fleet: Fleet, model: str) -> Ed25519PrivateKey:
    """A key that the model trusts."""
    key = Ed25519PrivateKey.generate()
    await trust(fleet, model, key)
    return key


@pytest.fixture
async def model(fleet: Fleet) -> str:
    return await fleet.model()


async def test_a_signed_image_is_stored_shown_and_delivered(
    fleet: Fleet, model: str, key: Ed25519PrivateKey
) -> None:
    image = build(model, "1.1.0")
    stored = await upload(fleet, model, image, signature=sign(key, image))
    assert (stored.current, stored.signature, stored.signed_by) == (True, text(sign(key, image)), fingerprint(key))
    shown = await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")
    assert (shown.signature, shown.signed_by) == (stored.signature, stored.signed_by)
    package = await fleet.device(model)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")


async def test_an_image_without_a_signature_is_refused(fleet: Fleet, model: str, key: Ed25519PrivateKey) -> None:
    expected = rf"signature: expected one by a key that {model} trusts \({fingerprint(key)}\), found none"
    with pytest.raises(AnswerError, match=expected):
        await upload(fleet, model, build(model, "1.1.0"))
    assert await versions(fleet, model) == []


async def test_a_signature_of_another_key_or_image_is_refused(
    fleet: Fleet, model: str, key: Ed25519PrivateKey
) -> None:
    image, other = build(model, "1.1.0"), build(model, "1.2.0")
    for signature in (sign(Ed25519PrivateKey.generate(), image), sign(key, other), bytes(64), key.sign(image)):
        with pytest.raises(AnswerError, match=r"signature: .*found one by another key or of another file"):
            await upload(fleet, model, image, signature=signature)
    assert await versions(fleet, model) == []
    assert (await upload(fleet, model, image, signature=sign(key, image))).current


async def test_a_refused_signature_costs_no_second_upload(
    fleet: Fleet, model: str, key: Ed25519PrivateKey
) -> None:
    image = build(model, "1.1.0", size_bytes=96 * 1024)
    with pytest.raises(AnswerError, match="signature: "):
        await upload(fleet, model, image)
    announced = {"model": model, "sha256": hashlib.sha256(image).hexdigest(), "size_bytes": len(image)}
    assert (await fleet.ask(admin.UPLOAD_BEGIN, **announced)).missing == []
    assert (await upload(fleet, model, image, signature=sign(key, image))).current


async def test_what_was_stored_before_there_was_a_key_is_released_only_once_it_is_signed(
    fleet: Fleet, model: str
) -> None:
    old, new = build(model, "1.1.0"), build(model, "1.2.0")
    await upload(fleet, model, old)
    await upload(fleet, model, new)
    key = Ed25519PrivateKey.generate()
    await trust(fleet, model, key)
    with pytest.raises(AnswerError, match=r"signature: .*found none"):
        await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")
    with pytest.raises(AnswerError, match=r"signature: .*found none"):
        await upload(fleet, model, old)
    signed = await upload(fleet, model, old, signature=sign(key, old), release=False)
    assert (signed.current, signed.signed_by) == (False, fingerprint(key))
    assert (await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")).current
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=model)).entries
    assert [entry.action for entry in entries][:3] == ["firmware.release", "firmware.sign", "firmware.key_added"]


async def test_what_is_not_signed_is_not_rolled_out(fleet: Fleet, model: str) -> None:
    await fleet.device(model)
    image = build(model, "1.1.0")
    await upload(fleet, model, image, release=False)
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    await trust(fleet, model, first)
    with pytest.raises(AnswerError, match=r"signature: .*found none"):
        await fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version="1.1.0")
    with pytest.raises(AnswerError, match=r"signature: .*found none"):
        await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", force=True)
    await upload(fleet, model, image, signature=sign(first, image), release=False)
    await trust(fleet, model, second)
    await distrust(fleet, model, first)
    with pytest.raises(AnswerError, match=r"signature: .*found one by another key"):
        await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", force=True)
    await upload(fleet, model, image, signature=sign(second, image), release=False)
    begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", force=True)
    assert begun.state == "RUNNING"
    await fleet.ask(admin.ROLLOUT_ABORT, rollout=begun.rollout)


async def test_a_rollout_that_is_open_when_its_model_gets_a_key_halts_until_the_image_is_signed(
    fleet: Fleet, model: str
) -> None:
    package = await fleet.device(model)
    image = build(model, "1.1.0")
    await upload(fleet, model, image, release=False)
    begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", force=True)
    key = Ed25519PrivateKey.generate()
    await trust(fleet, model, key)
    await fleet.witness.seen(None, "rollout/halted", rollout=begun.rollout)
    halted = await fleet.ask(admin.ROLLOUT_STATUS, rollout=begun.rollout)
    assert (halted.state, "found none" in (halted.reason or "")) == ("HALTED", True)
    with pytest.raises(AnswerError, match=r"signature: .*found none"):
        await fleet.ask(admin.ROLLOUT_RESUME, rollout=begun.rollout)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await upload(fleet, model, image, signature=sign(key, image), release=False)
        assert (await fleet.show(package)).firmware_version != "1.1.0"
        await fleet.ask(admin.ROLLOUT_RESUME, rollout=begun.rollout)
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")


async def test_a_key_is_changed_by_way_of_two(fleet: Fleet, model: str, key: Ed25519PrivateKey) -> None:
    old, new = build(model, "1.1.0"), build(model, "1.2.0")
    await upload(fleet, model, old, signature=sign(key, old))
    successor = Ed25519PrivateKey.generate()
    both = await trust(fleet, model, successor)
    assert [one.fingerprint for one in both.keys] == [fingerprint(key), fingerprint(successor)]
    await upload(fleet, model, new, signature=sign(successor, new))
    assert (await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")).signed_by == fingerprint(key)
    assert (await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.2.0")).current
    left = await distrust(fleet, model, key)
    assert [one.fingerprint for one in left.keys] == [fingerprint(successor)]
    assert (await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")).signed_by is None
    with pytest.raises(AnswerError, match=r"signature: .*found one by another key"):
        await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")
    await upload(fleet, model, old, signature=sign(successor, old))
    shown = await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")
    assert (shown.current, shown.signed_by) == (True, fingerprint(successor))


async def test_a_model_without_keys_takes_any_image_and_keeps_its_signature(fleet: Fleet, model: str) -> None:
    key = Ed25519PrivateKey.generate()
    plain, signed = build(model, "1.1.0"), build(model, "1.2.0")
    assert (await upload(fleet, model, plain)).signature is None
    stored = await upload(fleet, model, signed, signature=sign(key, signed))
    assert (stored.signature, stored.signed_by) == (text(sign(key, signed)), None)
    await trust(fleet, model, key)
    assert (await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.2.0")).signed_by == fingerprint(key)
    await distrust(fleet, model, key)
    assert (await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")).current


async def test_keys_are_of_one_model_and_each_change_is_told(fleet: Fleet, model: str) -> None:
    key, other = Ed25519PrivateKey.generate(), await fleet.model()
    await trust(fleet, model, key)
    assert (await fleet.ask(admin.KEY_LIST, model=other)).keys == []
    listed = (await fleet.ask(admin.KEY_LIST, model=model)).keys
    assert [(one.public_key, one.author) for one in listed] == [(text(raw(key)), "admin")]
    with pytest.raises(AnswerError, match=r"public_key: .* already"):
        await trust(fleet, model, key)
    with pytest.raises(AnswerError, match=r"fingerprint: .* trusts no key"):
        await distrust(fleet, other, key)
    await distrust(fleet, model, key)
    for verb in ("key_added", "key_removed"):
        await fleet.witness.seen(None, f"firmware/{verb}", model=model, fingerprint=fingerprint(key))


async def test_a_key_is_trusted_once_however_often_the_request_comes(fleet: Fleet, model: str) -> None:
    public_key = base64.b64encode(raw(Ed25519PrivateKey.generate()))
    request = admin.KeyAdd(request_id=uuid4().hex, model=model, public_key=public_key)
    answers = [await fleet.admin.call(admin.KEY_ADD, request, timeout_s=30) for _ in range(2)]
    assert answers[0] == answers[1]


async def test_a_model_with_keys_can_be_removed(fleet: Fleet, model: str, key: Ed25519PrivateKey) -> None:
    assert (await fleet.ask(admin.KEY_LIST, model=model)).keys[0].fingerprint == fingerprint(key)
    assert (await fleet.ask(admin.MODEL_REMOVE, code=model)).removed == model
