from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest

from device import image_builder
from device.download import Wish
from device.firmware import FirmwareUpdater
from device.flash import Flash
from device.options import Options
from device.uplink import Ending
from shared.protocol import messages, topics
from shared.protocol.messages import FirmwareStage
from tests.unit.device.kit import Surroundings, same

OLD = image_builder.build(version="1.0.0", project="blink")
NEW = image_builder.build(version="1.1.0", project="blink", size_bytes=4096)
CHUNK = 256


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def offer(
    data: bytes = NEW, *, chunk: int = CHUNK, request_id: str | None = None, url: str | None = None
) -> messages.FirmwareOffer:
    return messages.FirmwareOffer(
        request_id=request_id,
        sha256=sha256(data),
        size_bytes=len(data),
        version="1.1.0",
        chunk_size_bytes=chunk,
        window=4,
        url=url,
    )


class Fetcher:
    """Remembers what is to be fetched over HTTP."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.is_busy = False

    def start(self, url: str, _wish: Wish, offset: int) -> None:
        self.begun.append((url, offset))
        self.is_busy = True

    def stop(self) -> None:
        self.is_busy = False


class Device:
    """A flash with its firmware, booted and connected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.around = Surroundings()
        self.reports: list[messages.FirmwareReport] = []
        self.fetcher: Fetcher | None = None

    def boot(self, *, connected: bool = True) -> FirmwareUpdater:
        self.around.uplink.reset()
        self.flash = Flash(self.folder, first_image=lambda: OLD, fault=self.around.hooks.fault)
        options = Options(slot_size_bytes=8192, chunk_timeout_s=3, verify_timeout_s=60, sweep_s=1000)
        self.firmware = FirmwareUpdater(self.flash, self.around.uplink, options, self.fetcher)
        if connected:
            self.firmware.on_connected()
        return self.firmware

    def requests(self, after_s: float = 0.0) -> list[messages.FirmwareChunkRequest]:
        self.around.flush(after_s)
        self.reports += self.around.link.take(topics.FIRMWARE_REPORT)
        return self.around.link.take(topics.FIRMWARE_CHUNK)

    def serve(self, data: bytes = NEW, *, rounds: int = 10_000) -> int:
        """Answer chunk requests until there are none; return how many there were."""
        served = 0
        for _ in range(rounds):
            requests = self.requests()
            if not requests:
                break
            for request in requests:
                piece = data[request.offset : request.offset + request.length]
                self.firmware.on_chunk(request.sha256, request.offset, piece)
                served += 1
        return served

    def stages(self) -> list[FirmwareStage]:
        self.requests()
        return [report.stage for report in self.reports]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.boot()
    return device


@pytest.mark.parametrize("chunk", [64, 241, 256, 1000, 1365, 2048, 4095, 4096, 4097, 5000])
def test_an_image_is_fetched_verified_booted_and_confirmed(device: Device, chunk: int) -> None:
    device.firmware.on_offer(offer(chunk=chunk))

    assert device.serve() == -(-4096 // chunk)
    assert device.around.uplink.ending is Ending.REBOOT
    assert device.stages()[-2:] == [FirmwareStage.VERIFYING, FirmwareStage.REBOOTING]
    device.boot()
    assert device.flash.running.version == "1.1.0"
    assert FirmwareStage.CONFIRMED not in device.stages()
    device.firmware.on_healthy()
    device.firmware.on_healthy()
    assert device.stages().count(FirmwareStage.CONFIRMED) == 1
    assert device.flash.outcome is None
    device.boot()
    assert device.stages().count(FirmwareStage.CONFIRMED) == 1


def test_a_window_of_chunks_is_under_way_and_a_lost_one_is_asked_for_again(device: Device) -> None:
    device.firmware.on_offer(offer())

    assert [request.offset for request in device.requests()] == [0, 256, 512, 768]
    device.firmware.on_chunk(sha256(NEW), 256, NEW[256:512])
    assert [request.offset for request in device.requests()] == [1024]
    assert [request.offset for request in device.requests(after_s=3)] == [0, 512, 768, 1024]


def test_a_chunk_twice_or_of_the_wrong_length_or_image_changes_nothing(device: Device) -> None:
    device.firmware.on_offer(offer())
    device.requests()

    device.firmware.on_chunk(sha256(NEW), 0, NEW[:255])
    device.firmware.on_chunk("f" * 64, 0, NEW[:256])
    assert device.requests() == []
    device.firmware.on_chunk(sha256(NEW), 0, NEW[:256])
    device.firmware.on_chunk(sha256(NEW), 0, NEW[:256])
    assert [request.offset for request in device.requests()] == [1024]


def test_a_chunk_that_was_not_asked_for_does_not_get_into_the_file(device: Device) -> None:
    device.firmware.on_offer(offer())

    device.firmware.on_chunk(sha256(NEW), 4096 - 256, bytes(256))

    assert device.serve() == 16
    assert device.stages()[-1] is FirmwareStage.REBOOTING


def test_chunks_in_any_order_make_the_image(device: Device) -> None:
    device.firmware.on_offer(offer())
    while requests := device.requests():
        for request in reversed(requests):
            piece = NEW[request.offset : request.offset + request.length]
            device.firmware.on_chunk(request.sha256, request.offset, piece)
    assert device.stages()[-1] is FirmwareStage.REBOOTING


@pytest.mark.parametrize("had", [1, 3, 4, 5, 15])
def test_a_power_cut_costs_less_than_a_window_of_the_chunks_that_were_there(device: Device, had: int) -> None:
    device.firmware.on_offer(offer())
    for offset in range(0, had * CHUNK, CHUNK):
        device.requests()
        device.firmware.on_chunk(sha256(NEW), offset, NEW[offset : offset + CHUNK])

    device.boot()
    device.firmware.on_offer(offer())
    assert device.serve() == 16 - had // 4 * 4


def test_a_restart_resumes(device: Device) -> None:
    device.firmware.on_offer(offer())
    device.serve(rounds=2)

    device.boot()
    device.firmware.on_offer(offer())
    assert device.serve() == 16 - 8


def test_a_new_connection_goes_on_with_what_is_under_way(device: Device) -> None:
    device.firmware.on_offer(offer())
    device.serve(rounds=1)
    device.around.uplink.reset()

    device.firmware.on_connected()

    assert [request.offset for request in device.requests()] == [1024, 1280, 1536, 1792]
    device.firmware.on_offer(offer())
    assert device.requests() == []


def test_progress_is_reported_in_steps(device: Device) -> None:
    device.firmware.on_offer(offer(chunk=16))
    device.serve()

    percents = [report.percent for report in device.reports if report.percent is not None]
    assert percents[0] == 0
    assert percents[-1] == 100
    assert len(percents) <= 21
    assert all(after - before >= 5 for before, after in pairwise(percents[:-1]))


def test_wrong_bytes_are_never_booted(device: Device) -> None:
    device.firmware.on_offer(offer())
    wrong = NEW[:-1] + bytes([NEW[-1] ^ 1])

    assert device.serve(wrong) == 3 * 16

    assert device.stages()[-1] is FirmwareStage.FAILED
    assert device.around.uplink.ending is None
    device.boot()
    assert device.flash.running.version == "1.0.0"
    device.firmware.on_offer(offer())
    device.serve()
    assert device.stages()[-1] is FirmwareStage.REBOOTING


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (image_builder.build(version="2", project="blink", chip="esp32c3", size_bytes=4096), "is for esp32c3"),
        (bytes(4096), "0xE9"),
        (bytes(8193), "size must be"),
        (bytes(8), "size must be"),
        (b"", "size must be"),
    ],
)
def test_what_cannot_run_here_is_reported_as_failed(device: Device, data: bytes, rule: str) -> None:
    device.firmware.on_offer(offer(data))
    device.serve(data)

    assert device.stages()[-1] is FirmwareStage.FAILED
    assert rule in str(device.reports[-1].error)
    assert device.around.uplink.ending is None


def test_cancelled_stops_and_forgets(device: Device) -> None:
    device.firmware.on_offer(offer())
    device.serve(rounds=2)

    device.firmware.on_cancelled(messages.FirmwareCancelled(sha256="f" * 64, reason="another one"))
    assert device.requests() != []
    device.firmware.on_cancelled(messages.FirmwareCancelled(sha256=sha256(NEW), reason="aborted"))
    assert device.requests(after_s=30) == []
    device.firmware.on_chunk(sha256(NEW), 2048, NEW[2048:2304])
    device.firmware.on_offer(offer())
    assert device.serve() == 16


def test_a_newer_offer_takes_the_place_of_the_older(device: Device) -> None:
    other = image_builder.build(version="1.2.0", project="blink", size_bytes=4096)
    device.firmware.on_offer(offer())
    device.serve(rounds=2)

    device.firmware.on_offer(offer(other))
    device.serve(other)
    device.boot()
    assert device.flash.running.version == "1.2.0"


def test_an_image_that_cannot_connect_in_time_is_rolled_back_and_refused(device: Device) -> None:
    device.firmware.on_offer(offer())
    device.serve()
    device.boot(connected=False)
    assert device.firmware.verify_by == device.around.time_s + 60

    device.firmware.on_verify_timeout()

    assert device.around.uplink.ending is Ending.REBOOT
    device.boot()
    assert device.flash.running.version == "1.0.0"
    assert device.stages()[-1] is FirmwareStage.ROLLED_BACK
    assert device.reports[-1].error == "was not connected and answered within 60 s"
    device.firmware.on_offer(offer())
    assert device.requests() == []
    assert same(device.reports[-1], sha256=sha256(NEW), stage=FirmwareStage.ROLLED_BACK)


def test_an_image_that_fails_its_self_test_is_rolled_back_at_once(device: Device) -> None:
    device.firmware.on_offer(offer())
    device.serve()
    device.around.self_test_error = "no sensor"
    device.boot()

    assert device.flash.running.version == "1.0.0"
    assert device.stages()[-1] is FirmwareStage.ROLLED_BACK
    assert device.reports[-1].error == "the self-test failed: no sensor"


def test_an_image_on_trial_fetches_nothing_over_its_way_back_but_asks_afterwards(device: Device) -> None:
    other = image_builder.build(version="1.2.0", project="blink", size_bytes=4096)
    device.firmware.on_offer(offer())
    device.serve()
    device.boot()
    device.around.take(topics.FIRMWARE_CHECK)

    device.firmware.on_offer(offer(other))
    assert device.requests() == []
    device.firmware.on_healthy()
    (check,) = device.around.take(topics.FIRMWARE_CHECK)
    assert check.version == "1.1.0"
    device.firmware.on_offer(offer(other, request_id=check.request_id))
    assert device.serve(other) == 16


def test_the_running_image_is_not_fetched(device: Device) -> None:
    device.firmware.on_offer(offer(OLD))

    assert device.requests() == []
    assert device.reports == []


def test_the_check_is_repeated_until_answered_and_again_after_a_sweep(device: Device) -> None:
    (check,) = device.around.take(topics.FIRMWARE_CHECK)
    assert same(check, version="1.0.0", sha256=sha256(OLD), chip="esp32", project="blink", slot_size_bytes=8192)
    assert device.around.take(topics.FIRMWARE_CHECK, after_s=5) == [check]

    device.firmware.on_offer(messages.FirmwareOffer(request_id=check.request_id, up_to_date=True))
    assert device.around.take(topics.FIRMWARE_CHECK, after_s=999) == []
    assert len(device.around.take(topics.FIRMWARE_CHECK, after_s=1)) == 1


URL = "https://images.example/firmware/1"


@pytest.fixture
def fetcher(device: Device) -> Fetcher:
    """The device's other road."""
    fetcher = device.fetcher = Fetcher()
    device.boot()
    return fetcher


def pieces(device: Device, data: bytes, first: int, end: int) -> None:
    for offset in range(first, end, CHUNK):
        device.firmware.on_fetched(sha256(NEW), offset, data[offset : offset + CHUNK])


def test_an_image_with_a_url_is_fetched_from_there_and_not_in_chunks(device: Device, fetcher: Fetcher) -> None:
    device.firmware.on_offer(offer(url=URL))
    device.firmware.on_offer(offer(url=URL))
    assert device.requests() == []
    assert fetcher.begun == [(URL, 0)]

    pieces(device, NEW, 0, len(NEW))
    assert fetcher.begun == [(URL, 0)]
    assert not fetcher.is_busy
    assert device.stages()[-2:] == [FirmwareStage.VERIFYING, FirmwareStage.REBOOTING]


def test_an_offer_without_a_url_is_fetched_in_chunks(device: Device, fetcher: Fetcher) -> None:
    device.firmware.on_offer(offer())
    assert len(device.requests()) == 4
    assert fetcher.begun == []


def test_what_http_did_not_bring_comes_in_chunks_and_stays_so_until_a_restart(
    device: Device, fetcher: Fetcher
) -> None:
    device.firmware.on_offer(offer(url=URL))
    pieces(device, NEW, 0, 2048)
    device.firmware.on_fetch_failed("f" * 64, "of another image")
    assert device.requests() == []
    device.firmware.on_fetch_failed(sha256(NEW), "no way")
    device.firmware.on_offer(offer(url=URL))
    assert [request.offset for request in device.requests()] == [2048, 2304, 2560, 2816]

    device.boot()
    device.firmware.on_offer(offer(url=URL))
    assert fetcher.begun == [(URL, 0), (URL, 2048)]


def test_a_new_connection_asks_http_for_the_rest(device: Device, fetcher: Fetcher) -> None:
    device.firmware.on_offer(offer(url=URL))
    pieces(device, NEW, 0, 1024)
    fetcher.stop()  # as the agent does when the link is lost
    device.firmware.on_connected()
    assert fetcher.begun == [(URL, 0), (URL, 1024)]


def test_wrong_bytes_are_fetched_again_from_the_start(device: Device, fetcher: Fetcher) -> None:
    device.firmware.on_offer(offer(url=URL))
    for _ in range(3):
        pieces(device, NEW[:-1] + bytes([NEW[-1] ^ 1]), 0, len(NEW))
    assert fetcher.begun == 3 * [(URL, 0)]
    assert device.stages()[-1] is FirmwareStage.FAILED
    assert not fetcher.is_busy


def test_cancelled_stops_http_too(device: Device, fetcher: Fetcher) -> None:
    device.firmware.on_offer(offer(url=URL))
    device.firmware.on_cancelled(messages.FirmwareCancelled(sha256=sha256(NEW), reason="aborted"))
    assert not fetcher.is_busy
