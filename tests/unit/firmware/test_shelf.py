from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from services.firmware.images.export import ImageExport
from shared.errors import InvalidInputError, UnavailableError
from shared.storage.images import Store

ONE, OTHER = bytes(8 * 1024 * 1024), b"\x01" * 8 * 1024 * 1024


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_put_replaced_and_cleared(tmp_path: Path) -> None:
    shelf = ImageExport(tmp_path / "made when missing")
    assert shelf.holds("lamp") is None
    for data in (b"one", b"other"):
        shelf.put("lamp", data)
        assert shelf.holds("lamp") == digest(data)
        assert (tmp_path / "made when missing" / "firmware-lamp.bin").read_bytes() == data
    assert ImageExport(tmp_path / "made when missing").holds("lamp") == digest(b"other")
    shelf.clear("lamp")
    shelf.clear("lamp")
    assert shelf.holds("lamp") is None
    assert list((tmp_path / "made when missing").iterdir()) == []


def test_a_file_that_somebody_else_changed_is_noticed(tmp_path: Path) -> None:
    shelf = ImageExport(tmp_path)
    shelf.put("lamp", b"one")
    assert shelf.holds("lamp") == digest(b"one")
    (tmp_path / "firmware-lamp.bin").write_bytes(b"damaged")
    assert shelf.holds("lamp") == digest(b"damaged")


def test_everybody_may_read_the_file(tmp_path: Path) -> None:
    ImageExport(tmp_path).put("lamp", b"one")
    assert (tmp_path / "firmware-lamp.bin").stat().st_mode & 0o777 == 0o644


def test_what_a_killed_process_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".firmware-lamp-a.part", tmp_path / ".firmware-lamp-b.part"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    ImageExport(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_file_that_is_being_replaced_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    shelf, path, found, done = ImageExport(tmp_path), tmp_path / "firmware-lamp.bin", set[str](), threading.Event()
    shelf.put("lamp", ONE)

    def read() -> None:
        while not done.is_set():
            found.add(digest(path.read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while found < {digest(ONE), digest(OTHER)}:
            for data in (OTHER, ONE):
                shelf.put("lamp", data)
    finally:
        done.set()
        reader.join()
    assert found == {digest(ONE), digest(OTHER)}


async def test_an_image_in_the_store_is_whole_as_soon_as_it_is_seen(tmp_path: Path) -> None:
    store, found, done = Store(tmp_path.as_uri()), set[str](), threading.Event()

    def read() -> None:
        while not done.is_set():
            for file in tmp_path.rglob("*.bin"):
                found.add("whole" if digest(file.read_bytes()) == file.stem else "half")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while "whole" not in found:
            for number in range(5):
                data = number.to_bytes() * 8 * 1024 * 1024
                await store.put(digest(data), data)
    finally:
        done.set()
        reader.join()
    assert found == {"whole"}


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match=r"MDM_ASSETS_DIR: .*/file/below cannot be used"):
        ImageExport(tmp_path / "file" / "below")


def test_later_trouble_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    shelf = ImageExport(tmp_path)
    (tmp_path / "firmware-lamp.bin").mkdir()
    with pytest.raises(UnavailableError, match=r"firmware-lamp\.bin: "):
        shelf.put("lamp", b"one")
    with pytest.raises(UnavailableError, match=r"firmware-lamp\.bin: "):
        shelf.holds("lamp")
    with pytest.raises(UnavailableError, match=r"firmware-lamp\.bin: "):
        shelf.clear("lamp")
    assert [path.name for path in tmp_path.iterdir()] == ["firmware-lamp.bin"]
