"""The device's side of a firmware update: request, fetch, verify, boot, then confirm or roll back."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Final, Protocol

from device import image
from device.download import Download, Wish
from device.flash import Flash
from device.options import Options
from device.uplink import Ending, Outgoing, Uplink
from shared.protocol import messages, topics
from shared.protocol.messages import FirmwareStage

_KEY: Final = "firmware"
_STEP_PERCENT: Final = 5


class Fetches(Protocol):
    """The download over HTTP."""

    @property
    def is_busy(self) -> bool:
        """Whether an image is being fetched."""

    def start(self, url: str, wish: Wish, offset: int) -> None:
        """Fetch an image from `offset` on."""

    def stop(self) -> None:
        """Cancel the fetch that is in progress."""


class FirmwareUpdater:
    """Fetches an offered image into the inactive slot, with a window of chunks in progress."""

    def __init__(self, flash: Flash, uplink: Uplink, options: Options, fetcher: Fetches | None = None) -> None:
        """Start the running image; one on trial must pass its self-test first."""
        self._fetcher = fetcher
        self._url: str | None = None
        self._flash = flash
        self._uplink = uplink
        self._options = options
        self._asked: str | None = None
        self._download: Download | None = None
        self._window = 1
        self._under_way: set[int] = set()
        self._reported_percent = 0
        self.verify_by: float | None = None
        """When an image on trial is rolled back, on the hooks' clock in seconds."""
        if flash.pending_verify:
            fault = uplink.hooks.self_test(flash.running.version)
            if fault is None:
                self.verify_by = uplink.hooks.clock() + options.verify_timeout_s
            else:
                self._roll_back(f"the self-test failed: {fault}")

    @property
    def is_busy(self) -> bool:
        """Whether a request is not answered yet, an image is being fetched, or the running one is on trial."""
        return self._asked is not None or self._download is not None or self._flash.pending_verify

    def on_connected(self) -> None:
        """Report the outcome of the last image, request a new one, and continue a download that is in progress."""
        self._under_way.clear()
        self._report_outcome()
        self._begin_request()
        self._pump()

    def on_healthy(self) -> None:
        """Confirm the running image: it can connect and is answered."""
        if not self._flash.pending_verify:
            return
        self.verify_by = None
        self._flash.confirm()
        self._uplink.record("firmware.confirmed", version=self._flash.running.version)
        self._report_outcome()
        # Offers during the trial had to be ignored.
        self._begin_request()

    def on_verify_timeout(self) -> None:
        """Roll back to the old image: the new one cannot reach the server."""
        self._roll_back(f"was not connected and answered within {self._options.verify_timeout_s:g} s")
        self._uplink.end(Ending.REBOOT)

    def is_answer(self, offer: messages.FirmwareOffer) -> bool:
        """Return whether an offer answers our own request."""
        return offer.request_id is not None and offer.request_id == self._asked

    def on_offer(self, offer: messages.FirmwareOffer) -> None:
        """Begin or resume the offered image, unless there is a reason not to."""
        if self.is_answer(offer):
            self._asked = None
            sweep_s = self._options.sweep_s
            self._uplink.repeat(_KEY, self._next_refresh, every_s=sweep_s, first_in_s=sweep_s)
        sha256, size_bytes, chunk_size_bytes = offer.sha256, offer.size_bytes, offer.chunk_size_bytes
        if sha256 is None or size_bytes is None or chunk_size_bytes is None:
            return
        if sha256 == self._flash.running_sha256:
            return
        if self._flash.pending_verify:
            self._uplink.record("firmware.postponed", sha256=sha256)
            return
        if self._flash.is_refused(sha256):
            self._report(sha256, FirmwareStage.ROLLED_BACK, error="was rolled back before")
            return
        if not image.HEADER_BYTES <= size_bytes <= self._options.slot_size_bytes:
            fits = f"{image.HEADER_BYTES} to {self._options.slot_size_bytes}"
            self._report(sha256, FirmwareStage.FAILED, error=f"size must be {fits} bytes, is {size_bytes}")
            return
        self._window = offer.window or 1
        wish = Wish(sha256, size_bytes, chunk_size_bytes, self._flash.inactive)
        if self._download is None or self._download.wish != wish:
            self._begin(wish)
            self._url = offer.url if self._fetcher else None
        self._pump()

    def on_chunk(self, sha256: str, offset: int, data: bytes) -> None:
        """Store a requested chunk and ignore any other. A window of chunks is made durable at once."""
        download = self._download
        if download is None or sha256 != download.wish.sha256 or offset not in self._under_way:
            return
        if not download.put(offset, data):
            return
        self._under_way.discard(offset)
        self._uplink.stop(_chunk_key(offset))
        self._continue(download)

    def on_fetched(self, sha256: str, offset: int, data: bytes) -> None:
        """Store a chunk that was received over HTTP."""
        download = self._download
        if download is not None and sha256 == download.wish.sha256 and download.put(offset, data):
            self._continue(download)

    def _continue(self, download: Download) -> None:
        if download.unsaved >= self._window or download.is_complete:
            download.save()
        if download.percent >= self._reported_percent + _STEP_PERCENT or download.is_complete:
            self._report_percent(download)
        self._pump()

    def on_fetch_failed(self, sha256: str, reason: str) -> None:
        """Continue in chunks over MQTT."""
        if self._download is not None and self._download.wish.sha256 == sha256:
            self._uplink.record("firmware.http_failed", sha256=sha256, reason=reason)
            self._url = None
            self._stop_chunks()
            self._pump()

    def on_cancelled(self, message: messages.FirmwareCancelled) -> None:
        """Stop fetching this image and forget it."""
        if self._download is not None and self._download.wish.sha256 == message.sha256:
            self._uplink.record("firmware.cancelled", sha256=message.sha256, reason=message.reason)
            self._forget(self._download)

    def _begin(self, wish: Wish) -> None:
        self._stop_chunks()
        path = self._flash.path_of(wish.slot)
        self._download = Download(self._flash.folder, path, wish, fault=self._uplink.hooks.fault)
        self._uplink.record("firmware.fetching", sha256=wish.sha256, percent=self._download.percent)
        self._report_percent(self._download)

    def _pump(self) -> None:
        download = self._download
        if download is None:
            return
        if download.is_complete:
            self._finish(download)
            return
        if self._fetcher is not None and self._url is not None:
            if not self._fetcher.is_busy:
                self._fetcher.start(self._url, download.wish, next(download.missing(())))
            return
        for offset in download.missing(self._under_way):
            if len(self._under_way) >= self._window:
                break
            request = messages.FirmwareChunkRequest(
                sha256=download.wish.sha256, offset=offset, length=download.length_at(offset)
            )
            self._under_way.add(offset)
            self._uplink.repeat(
                _chunk_key(offset),
                partial(_chunk_request, request),
                every_s=self._options.chunk_timeout_s,
            )

    def _finish(self, download: Download) -> None:
        sha256 = download.wish.sha256
        self._report(sha256, FirmwareStage.VERIFYING)
        if not download.is_genuine():
            if download.restarts < self._options.download_restarts:
                self._uplink.record("firmware.corrupt", sha256=sha256, restarts=download.restarts)
                self._stop_chunks()
                download.restart()
                self._report_percent(download)
                self._pump()
                return
            self._fail(download, "the bytes do not have the sha256 that was offered")
            return
        try:
            found = image.read(download.head(image.HEADER_BYTES))
        except image.ImageInvalidError as error:
            self._fail(download, error.message)
            return
        if found.chip != self._flash.running.chip:
            self._fail(download, f"is for {found.chip}, not for {self._flash.running.chip}")
            return
        self._flash.activate()
        self._forget(download)
        self._report(sha256, FirmwareStage.REBOOTING)
        self._uplink.end(Ending.REBOOT)

    def _fail(self, download: Download, error: str) -> None:
        self._forget(download)
        self._report(download.wish.sha256, FirmwareStage.FAILED, error=error)

    def _forget(self, download: Download) -> None:
        self._stop_chunks()
        download.forget()
        self._download = None

    def _stop_chunks(self) -> None:
        for offset in self._under_way:
            self._uplink.stop(_chunk_key(offset))
        self._under_way.clear()
        if self._fetcher is not None:
            self._fetcher.stop()

    def _roll_back(self, error: str) -> None:
        self.verify_by = None
        self._flash.roll_back(error)
        self._uplink.record("firmware.rolled_back", version=self._flash.running.version, error=error)

    def _report_outcome(self) -> None:
        outcome = self._flash.outcome
        if outcome is not None:
            self._report(outcome.sha256, outcome.stage, error=outcome.error, is_outcome=True)

    def _report_percent(self, download: Download) -> None:
        self._reported_percent = download.percent
        self._report(download.wish.sha256, FirmwareStage.DOWNLOADING, percent=download.percent)

    def _report(
        self,
        sha256: str,
        stage: FirmwareStage,
        *,
        percent: int | None = None,
        error: str | None = None,
        is_outcome: bool = False,
    ) -> None:
        self._uplink.record("firmware.report", sha256=sha256, stage=stage.value, percent=percent, error=error)
        report = messages.FirmwareReport(sha256=sha256, stage=stage, percent=percent, error=error)
        self._uplink.send(topics.FIRMWARE_REPORT, report, then=self._clear_outcome if is_outcome else None)

    def _clear_outcome(self) -> None:
        if self._flash.outcome is not None:
            self._flash.clear_outcome()

    def _begin_request(self, *, first_in_s: float = 0.0) -> None:
        self._asked = uuid.uuid4().hex
        retry_s = self._options.retry_s
        self._uplink.repeat(_KEY, self._next_request, every_s=retry_s, first_in_s=first_in_s, slowing=True)

    def _next_request(self) -> Outgoing | None:
        if self._asked is None:
            return None
        running = self._flash.running
        return topics.FIRMWARE_CHECK, messages.FirmwareCheck(
            request_id=self._asked,
            version=running.version,
            sha256=self._flash.running_sha256,
            chip=running.chip,
            project=running.project,
            slot_size_bytes=self._options.slot_size_bytes,
        )

    def _next_refresh(self) -> Outgoing | None:
        self._begin_request(first_in_s=self._options.retry_s)
        return self._next_request()


def _chunk_request(request: messages.FirmwareChunkRequest) -> Outgoing:
    return topics.FIRMWARE_CHUNK, request


def _chunk_key(offset: int) -> str:
    return f"chunk:{offset}"
