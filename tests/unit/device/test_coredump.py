"""A core dump in flash, and the journal that tells of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from device import image_builder
from device.coredump import CoreDump
from device.flash import Flash
from device.journal import Journal
from device.options import Options
from shared.protocol import messages, topics
from shared.protocol.messages import CoreDumpRefused, CoreDumpStored, CoreDumpWanted
from tests.unit.device.kit import Killed, Surroundings

OPTIONS = Options(panic_bytes=250)
FIRST = image_builder.build(version="1.0.0", project="blink", elf_sha256=b"e" * 32)


def booted(folder: Path, around: Surroundings, options: Options = OPTIONS) -> CoreDump:
    flash = Flash(folder, first_image=lambda: FIRST)
    return CoreDump(flash, around.uplink, options)


def connected(folder: Path, around: Surroundings, options: Options = OPTIONS) -> tuple[CoreDump, bytes]:
    dump = booted(folder, around, options)
    dump.on_connected()
    return dump, (folder / "coredump.bin").read_bytes()


def pieces(around: Surroundings) -> list[tuple[int, bytes]]:
    """Return the pieces that were sent, and forget all that was."""
    sent = around.take(topics.COREDUMP_CHUNK)
    around.link.sent.clear()
    return [(piece.offset, piece.data) for piece in sent]


def test_a_device_that_did_not_crash_says_nothing(tmp_path: Path) -> None:
    around = Surroundings()
    booted(tmp_path, around, Options()).on_connected()
    assert around.take(topics.COREDUMP_OFFER) == []


def test_a_dump_is_offered_until_it_is_answered(tmp_path: Path) -> None:
    around = Surroundings()
    _, data = connected(tmp_path, around)
    [offer] = around.take(topics.COREDUMP_OFFER)
    assert offer == messages.CoreDumpOffer(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=250,
        elf_sha256="65" * 32,
        reason="panic",
        firmware_version="1.0.0",
    )
    assert around.take(topics.COREDUMP_OFFER, after_s=OPTIONS.retry_s / 2) == []
    assert around.take(topics.COREDUMP_OFFER, after_s=OPTIONS.retry_s / 2) == [offer]


def test_what_is_wanted_is_sent_once_and_then_the_dump_is_offered_again(tmp_path: Path) -> None:
    around = Surroundings()
    dump, data = connected(tmp_path, around)
    [offer] = around.take(topics.COREDUMP_OFFER)
    wanted = CoreDumpWanted(sha256=offer.sha256, chunk_size_bytes=100, missing=[0, 200])
    dump.on_wanted(wanted)
    dump.on_wanted(wanted)
    sent = around.flush().sent
    assert sum(topics.COREDUMP_OFFER.match(topic) is not None for topic, _ in sent) == 1
    assert pieces(around) == [(0, data[:100]), (200, data[200:])]
    dump.on_wanted(wanted)
    assert pieces(around) == []
    around.flush(OPTIONS.retry_s)
    dump.on_wanted(wanted)
    assert len(pieces(around)) == 2


def test_pieces_that_were_lost_with_a_connection_are_sent_on_the_next(tmp_path: Path) -> None:
    around = Surroundings()
    dump, _ = connected(tmp_path, around)
    [offer] = around.take(topics.COREDUMP_OFFER)
    wanted = CoreDumpWanted(sha256=offer.sha256, chunk_size_bytes=100, missing=[0, 100, 200])
    dump.on_wanted(wanted)
    around.uplink.reset()
    dump.on_connected()
    dump.on_wanted(wanted)
    assert len(pieces(around)) == 3


@pytest.mark.parametrize("stored", [True, False])
def test_only_a_stored_dump_is_erased_and_neither_is_offered_again(tmp_path: Path, stored: bool) -> None:
    around = Surroundings()
    dump, _ = connected(tmp_path, around)
    [offer] = around.take(topics.COREDUMP_OFFER)
    if stored:
        dump.on_stored(CoreDumpStored(sha256=offer.sha256))
    else:
        dump.on_refused(CoreDumpRefused(sha256=offer.sha256, reason="no"))
    assert (tmp_path / "coredump.bin").exists() is not stored
    around.uplink.reset()
    dump.on_connected()
    assert around.take(topics.COREDUMP_OFFER, after_s=OPTIONS.retry_s) == []
    booted(tmp_path, around, Options()).on_connected()
    assert len(around.take(topics.COREDUMP_OFFER)) == (0 if stored else 1)


def test_an_answer_about_another_dump_changes_nothing(tmp_path: Path) -> None:
    around = Surroundings()
    dump, _ = connected(tmp_path, around)
    around.take(topics.COREDUMP_OFFER)
    dump.on_stored(CoreDumpStored(sha256="0" * 64))
    dump.on_refused(CoreDumpRefused(sha256="0" * 64, reason="no"))
    dump.on_wanted(CoreDumpWanted(sha256="0" * 64, chunk_size_bytes=100, missing=[0]))
    assert pieces(around) == []
    assert (tmp_path / "coredump.bin").exists()
    assert len(around.take(topics.COREDUMP_OFFER, after_s=OPTIONS.retry_s)) == 1


def test_a_stored_dump_of_a_device_that_dies_before_it_is_erased_is_offered_again(tmp_path: Path) -> None:
    around = Surroundings()
    dump, _ = connected(tmp_path, around)
    [offer] = around.take(topics.COREDUMP_OFFER)
    around.kill_at = "coredump.erase:before"
    with pytest.raises(Killed):
        dump.on_stored(CoreDumpStored(sha256=offer.sha256))
    connected(tmp_path, around)
    assert around.take(topics.COREDUMP_OFFER) == [offer]


def test_the_journal_is_said_once_and_counted_on() -> None:
    around = Surroundings()
    around.uplink.record("login.accepted", generation=1)
    around.uplink.record("firmware.fetching", percent=5)
    around.uplink.record("link.lost", error="gone")
    [log] = around.take(topics.LOG)
    assert [(line.level, line.message) for line in log.lines] == [
        ("info", "login.accepted generation=1"),
        ("warning", "link.lost error=gone"),
    ]
    assert around.take(topics.LOG) == []
    around.uplink.record("rotation.done")
    [later] = around.take(topics.LOG)
    assert (later.boot, later.first, len(later.lines)) == (log.boot, 2, 1)


def test_a_line_that_comes_while_others_are_said_stays_for_the_next_message() -> None:
    journal = Journal(Surroundings().hooks)
    journal.add("link.lost", {})
    said = journal.waiting()
    assert said is not None
    journal.add("login.accepted", {})
    journal.forget(said)
    rest = journal.waiting()
    assert rest is not None
    assert (rest.first, [line.message for line in rest.lines]) == (1, ["login.accepted"])


def test_of_too_many_lines_the_oldest_are_lost_and_the_numbers_show_it() -> None:
    journal = Journal(Surroundings().hooks)
    for number in range(60):
        journal.add("link.lost", {"error": f"{number}\0"})
    log = journal.waiting()
    assert log is not None
    assert (log.first, len(log.lines), log.lines[0].message) == (10, 50, "link.lost error=10")
