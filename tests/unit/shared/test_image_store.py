import asyncio
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.servers.base import Leash, Process
from shared.errors import InvalidInputError, NotFoundError, UnavailableError
from shared.storage.images import Store
from tests import s3_server

DATA = bytes(range(256)) * 5
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Run a server of S3, which all stores of this module find by their environment."""
    leash = Leash()
    process, settings = s3_server.server(tmp_path_factory.mktemp("s3"), leash=leash)
    process.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield process
    process.stop()
    leash.close()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return Store("memory:///")
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Store(f"{s3_server.URL}/{uuid4().hex}")
    return Store((tmp_path / "made when missing").as_uri())


async def test_an_image_comes_back_as_it_was_put(store: Store) -> None:
    await store.put(SHA256, DATA)
    assert await store.read(SHA256, 0, len(DATA)) == DATA
    assert await store.read(SHA256, 100, 50) == DATA[100:150]


async def test_the_last_piece_is_shorter(store: Store) -> None:
    await store.put(SHA256, DATA)
    assert await store.read(SHA256, len(DATA) - 3, 1024) == DATA[-3:]


async def test_putting_twice_is_harmless(store: Store) -> None:
    await store.put(SHA256, DATA)
    await store.put(SHA256, DATA)
    assert await store.read(SHA256, 0, len(DATA)) == DATA


async def test_data_under_another_sha256_is_refused_and_not_stored(store: Store) -> None:
    with pytest.raises(InvalidInputError, match=f"sha256: expected {SHA256}, found"):
        await store.put(SHA256, DATA + b"x")
    assert not await store.has(SHA256)


async def test_an_image_is_there_until_it_is_deleted(store: Store) -> None:
    assert not await store.has(SHA256)
    await store.put(SHA256, DATA)
    assert await store.has(SHA256)
    await store.delete(SHA256)
    assert not await store.has(SHA256)
    await store.delete(SHA256)


async def test_reading_an_unknown_image_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no image"):
        await store.read(SHA256, 0, 10)


async def test_what_is_stored_is_listed_and_a_fault_of_it_is_found(store: Store) -> None:
    assert (await store.names(), await store.fault(SHA256)) == ([], "missing")
    await store.put(SHA256, DATA)
    assert (await store.names(), await store.fault(SHA256)) == ([SHA256], None)


@pytest.mark.parametrize(
    ("offset", "length", "field"),
    [(-1, 10, "offset"), (0, 0, "length"), (len(DATA), 1, "offset"), (len(DATA) + 9, 1, "offset")],
)
async def test_a_range_outside_the_image_is_invalid(store: Store, offset: int, length: int, field: str) -> None:
    await store.put(SHA256, DATA)
    with pytest.raises(InvalidInputError) as caught:
        await store.read(SHA256, offset, length)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize("name", ["", "../../etc/passwd", SHA256.upper(), SHA256[:-1], SHA256 + "\n"])
async def test_a_name_that_is_no_sha256_never_reaches_the_store(store: Store, name: str) -> None:
    for attempt in (store.put(name, DATA), store.read(name, 0, 1), store.has(name), store.delete(name)):
        with pytest.raises(InvalidInputError, match="64 hexadecimal digits"):
            await attempt


async def test_a_file_store_keeps_one_file_an_image_and_survives_a_restart(tmp_path: Path) -> None:
    await Store(tmp_path.as_uri()).put(SHA256, DATA)
    assert os.listdir(tmp_path / "images") == [f"{SHA256}.bin"]  # noqa: PTH208 - a test may block
    assert await Store(tmp_path.as_uri()).read(SHA256, 0, len(DATA)) == DATA


async def test_an_image_is_on_the_disk_before_the_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def fsync(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - as the kernel has it

    monkeypatch.setattr(os, "fsync", fsync)
    await Store(tmp_path.as_uri()).put(SHA256, DATA)
    assert flushed == [str(tmp_path / "images" / f"{SHA256}.bin"), str(tmp_path / "images")]


async def test_putting_again_mends_a_damaged_copy(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    await store.put(SHA256, DATA)
    (tmp_path / "images" / f"{SHA256}.bin").write_bytes(b"")
    await store.put(SHA256, DATA)
    assert await store.read(SHA256, 0, len(DATA)) == DATA


async def test_a_store_in_trouble_is_unavailable(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    (tmp_path / "images").write_text("a file where the directory should be")
    with pytest.raises(UnavailableError, match="image store: ") as caught:
        await store.put(SHA256, DATA)
    assert "\n" not in caught.value.message
    for attempt in (store.read(SHA256, 0, 1), store.has(SHA256), store.delete(SHA256)):
        with pytest.raises(UnavailableError):
            await attempt


@pytest.mark.usefixtures("s3")
async def test_a_signed_path_is_all_that_is_needed_to_fetch_an_image() -> None:
    store = Store(s3_server.URL)
    await store.put(SHA256, DATA)
    path = await store.path(SHA256)
    async with httpx.AsyncClient(base_url=os.environ["AWS_ENDPOINT"]) as client:
        fetched = await client.get(path, headers={"Range": "bytes=10-19"})
        assert (fetched.status_code, fetched.content) == (206, DATA[10:20])
        assert fetched.request.url.params["X-Amz-Expires"] == "300"
        assert (await client.get(path.replace("Signature", "Signed"))).status_code == 400


@pytest.mark.usefixtures("s3")
async def test_a_path_that_cannot_be_signed_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where the keys are those of a role, and who gives them out is away."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/images")
    with pytest.raises(UnavailableError, match="image store: "):
        await Store(s3_server.URL).path(SHA256)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
async def test_an_s3_server_that_does_not_answer_is_unavailable_after_two_requests(
    s3: Process, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "1s")
    store = Store(s3_server.URL)
    await store.put(SHA256, DATA)
    s3.send_signal(number)
    attempts = (store.read(SHA256, 0, 1), store.has(SHA256), store.put(SHA256, DATA), store.names())
    try:
        async with asyncio.timeout(30):
            found = await asyncio.gather(*attempts, return_exceptions=True)
    finally:
        s3.kill()
        s3.start()
    assert [type(error) for error in found] == [UnavailableError] * len(attempts)
    assert await store.read(SHA256, 0, len(DATA)) == DATA


@pytest.mark.parametrize("url", ["", "/var/lib/mdm", "nope://x", "s3://", "file:///proc/nowhere/x"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(
        InvalidInputError, match="MDM_ASSETS_URL: expected file:///path, s3://bucket/prefix or memory:///"
    ):
        Store(url)


@given(st.binary(min_size=1, max_size=300), st.integers(0, 299), st.integers(1, 300))
async def test_a_read_is_a_slice(data: bytes, offset: int, length: int) -> None:
    store = Store("memory:///")
    sha256 = hashlib.sha256(data).hexdigest()
    await store.put(sha256, data)
    if offset < len(data):
        assert await store.read(sha256, offset, length) == data[offset : offset + length]
    else:
        with pytest.raises(InvalidInputError):
            await store.read(sha256, offset, length)
