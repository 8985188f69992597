from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.download import Download, Wish
from tests.unit.device.kit import Killed, Surroundings

DATA = random.Random(1).randbytes(1000)  # noqa: S311 — test data


def wish(data: bytes = DATA, *, chunk_size_bytes: int = 100, slot: int = 1) -> Wish:
    return Wish(hashlib.sha256(data).hexdigest(), len(data), chunk_size_bytes, slot)


def begin(folder: Path, wanted: Wish, around: Surroundings | None = None) -> Download:
    around = around or Surroundings()
    return Download(folder, folder / "ota_1.bin", wanted, fault=around.hooks.fault)


def put(download: Download, *chunks: int, data: bytes = DATA) -> None:
    size = download.wish.chunk_size_bytes
    for chunk in chunks:
        assert download.put(chunk * size, data[chunk * size : (chunk + 1) * size])


@pytest.mark.parametrize(
    ("size_bytes", "chunks", "last"), [(1000, 10, 100), (1001, 11, 1), (99, 1, 99), (100, 1, 100)]
)
def test_the_last_chunk_may_be_shorter(tmp_path: Path, size_bytes: int, chunks: int, last: int) -> None:
    data = (DATA + DATA)[:size_bytes]
    download = begin(tmp_path, wish(data))

    offsets = list(download.missing(()))
    assert len(offsets) == chunks
    assert download.length_at(offsets[-1]) == last
    put(download, *range(chunks), data=data)
    assert download.is_complete
    assert download.is_genuine()


def test_a_chunk_out_of_place_or_of_the_wrong_length_or_twice_is_not_taken(tmp_path: Path) -> None:
    download = begin(tmp_path, wish())
    put(download, 3)

    assert not download.put(300, DATA[300:400])
    assert not download.put(50, DATA[50:150])
    assert not download.put(1000, b"")
    assert not download.put(0, DATA[:99])
    assert not download.put(0, DATA[:101])
    assert download.percent == 10


def test_what_was_saved_survives_a_restart_and_what_was_not_is_fetched_again(tmp_path: Path) -> None:
    download = begin(tmp_path, wish())
    put(download, 0, 2, 5)
    download.save()
    put(download, 1)

    resumed = begin(tmp_path, wish())
    assert list(resumed.missing({300})) == [100, 400, 600, 700, 800, 900]
    put(resumed, 1, 3, 4, 6, 7, 8, 9)
    assert resumed.is_genuine()


@pytest.mark.parametrize("other", [wish(DATA[:-1] + b"!"), wish(slot=0), replace(wish(), size_bytes=999)])
def test_another_image_or_slot_starts_from_zero(tmp_path: Path, other: Wish) -> None:
    download = begin(tmp_path, wish())
    put(download, 0, 1)
    download.save()

    assert begin(tmp_path, other).percent == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    before=st.integers(1, 1100),
    after=st.integers(1, 1100),
    done=st.sets(st.integers(0, 20)),
)
def test_after_a_change_of_the_chunk_size_only_what_is_there_counts(
    tmp_path: Path, before: int, after: int, done: set[int]
) -> None:
    download = begin(tmp_path, wish(chunk_size_bytes=before))
    put(download, *(chunk for chunk in done if chunk < download.chunks))
    download.save()

    resumed = begin(tmp_path, wish(chunk_size_bytes=after))
    for offset in list(resumed.missing(())):
        assert resumed.put(offset, DATA[offset : offset + after])
    assert resumed.is_complete
    assert resumed.is_genuine()
    resumed.forget()


@pytest.mark.parametrize("point", ["begin", "save"])
@pytest.mark.parametrize("at", ["before", "written", "after"])
def test_a_device_killed_at_any_point_ends_with_the_right_bytes(tmp_path: Path, point: str, at: str) -> None:
    old = bytes(1000)
    first = begin(tmp_path, wish(old))
    put(first, *range(10), data=old)
    first.save()
    around = Surroundings()
    around.kill_at = f"download.{point}:{at}"

    def fetch() -> None:
        download = begin(tmp_path, wish(), around)
        put(download, 0, 1)
        download.save()

    with pytest.raises(Killed):
        fetch()

    download = begin(tmp_path, wish())
    put(download, *(offset // 100 for offset in list(download.missing(()))))
    assert download.is_genuine()


def test_wrong_bytes_are_found_and_counted(tmp_path: Path) -> None:
    download = begin(tmp_path, wish())
    put(download, *range(9))
    assert download.put(900, bytes(100))
    assert download.is_complete
    assert not download.is_genuine()

    download.restart()
    assert (download.percent, begin(tmp_path, wish()).restarts) == (0, 1)


def test_what_is_forgotten_starts_from_zero(tmp_path: Path) -> None:
    download = begin(tmp_path, wish())
    put(download, 0)
    download.save()
    download.forget()
    download.forget()

    assert begin(tmp_path, wish()).percent == 0
