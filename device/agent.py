"""The main loop of the device: boot, log in, exchange messages until the connection ends, and repeat."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from device import login
from device import package as packages
from device.board import Board
from device.fetcher import Failure, ImagePiece
from device.key import recover
from device.link import Link, LinkLostError, LoginRefusedError, tls_context
from device.options import Hooks, Options
from device.rotation import Slot
from device.uplink import Ending, Uplink
from shared.errors import InvalidInputError
from shared.protocol import topics
from shared.protocol.admin import Package

_EXPONENT_MAX: Final = 16
T = TypeVar("T")


def _fraction() -> float:
    return random.random()  # noqa: S311 — a pause is no secret


def backoff_s(failures: int, options: Options, fraction: float) -> float:
    """Return the pause in seconds after consecutive failures; `fraction` (0 to 1) spreads a fleet."""
    longest_s = options.backoff_min_s * 2.0 ** min(max(failures, 1) - 1, _EXPONENT_MAX)
    return min(options.backoff_max_s, longest_s) * (0.5 + 0.5 * fraction)


def _drop(connecting: asyncio.Future[Link]) -> None:
    """Close a connection whose login was abandoned."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().drop()


async def _abandon(*futures: asyncio.Future[Any] | None) -> None:
    """Cancel all futures."""
    for future in futures:
        if future is not None:
            future.cancel()
            await asyncio.wait({future})
            if not future.cancelled():
                future.exception()


class Agent:
    """A reference device with the package's identity and its flash and credentials in `state`.

    `image` fills an empty flash; without it an image 1.0.0 is built. Cancelling `run`, or an exception from a
    hook, ends the device like a power cut: without DISCONNECT, so that the broker publishes its will.
    """

    def __init__(
        self,
        package: Package,
        state: Path,
        *,
        options: Options | None = None,
        hooks: Hooks | None = None,
        image: bytes | None = None,
    ) -> None:
        """Create the device; raise InvalidInputError for an unusable package."""
        packages.check(package)
        self._package = package
        self._state = state
        self._options = options or Options()
        self._hooks = hooks or Hooks()
        self._image = image
        tls_context(package)
        self._uplink = Uplink(package.client_id, self._hooks)
        self._stop = asyncio.Event()
        self._stopping: asyncio.Future[Any] | None = None
        self._board: Board | None = None

    def stop(self) -> None:
        """Let `run` disconnect cleanly and return."""
        self._stop.set()

    async def run(self) -> None:
        """Run the device until `stop`; raise StateUnreadableError if its files are damaged or another device's."""
        self._stopping = asyncio.ensure_future(self._stop.wait())
        try:
            reset_reason = "poweron"
            while await self._live(reset_reason) is not Ending.STOP:
                reset_reason = "sw"
        finally:
            self._stopping.cancel()

    async def _live(self, reset_reason: str) -> Ending:
        """Run from one boot to its end, which is STOP or REBOOT."""
        board = Board(
            self._package,
            self._state,
            self._uplink,
            self._options,
            image=self._image,
            reset_reason=reset_reason,
        )
        self._board = board
        status = board.status()
        self._uplink.record(
            "device.booted",
            version=status.firmware_version,
            config_version=status.config_version,
            reset_reason=reset_reason,
        )
        failures = 0
        awake_at = self._hooks.clock()
        profile = board.mover.profile
        while True:
            self._uplink.reset()
            if board.mover.profile != profile:
                failures, profile = 0, board.mover.profile
            began = self._hooks.clock()
            pause_s = 0.0
            try:
                slot, link = await self._login(board)
            except LinkLostError as error:
                failures += 1
                pause_s = backoff_s(failures, self._options, _fraction())
                self._uplink.record("login.failed", error=error.message, pause_s=round(pause_s, 1))
            else:
                if link is not None:
                    await self._talk(board, slot, link)
                    board.mover.on_lost()
                if self._uplink.ending is None:
                    lived = self._hooks.clock() - began >= self._options.stable_s
                    failures = 0 if lived else failures + 1
                    # The first loss is followed at once: the broker may have disconnected us to demand the new
                    # secret.
                    if failures > 1:
                        pause_s = backoff_s(failures - 1, self._options, _fraction())
            if await self._rest(pause_s, awake_at):
                failures, awake_at = 0, self._hooks.clock()
            ending = self._uplink.ending
            if ending in {Ending.STOP, Ending.REBOOT}:
                return ending

    async def _rest(self, pause_s: float, awake_at: float) -> bool:
        """Wait before the next login, or sleep if it is time to; return whether the device has slept."""
        interval_s = self._options.wake_interval_s
        overtired = self._hooks.clock() - awake_at >= self._options.awake_max_s and pause_s > 0
        if interval_s is not None and (self._uplink.ending is Ending.SLEEP or overtired):
            self._uplink.reset()
            self._uplink.record("device.asleep", wake_interval_s=interval_s)
            await self._wait(until=self._hooks.clock() + interval_s)
            return True
        if pause_s and self._uplink.ending is None:
            await self._wait(until=self._hooks.clock() + pause_s)
        return False

    async def _login(self, board: Board) -> tuple[Slot, Link | None]:
        """Log in with the first slot that the broker accepts; return no link if the device must end or retry."""
        slots, package = board.credentials.login_order(), board.mover.package
        if package.wifi and not any(self._hooks.joins(network) for network in package.wifi):
            raise LinkLostError("no Wi-Fi network can be joined")
        for slot in slots:
            try:
                connecting = login.connect(package, slot, self._options, tls=tls_context(package))
                link = await self._unless_ended(connecting, _drop)
            except LoginRefusedError:
                board.credentials.on_refused(slot)
                continue
            return slot, link
        if await self._recovered(board):
            return slots[0], None
        raise LinkLostError("the broker refused every secret")

    async def _recovered(self, board: Board) -> bool:
        """Request the secret in force, by the key that only this device has; return whether it was received.

        The port is the profile's, and then the one that the server named last, which may be on another host.
        """
        if board.key is None or board.key.recovery is None:
            return False
        recovery, package = board.key.recovery, board.mover.package
        ports = dict.fromkeys([board.mover.profile.recovery_port or recovery.port, recovery.port])
        for port in ports:
            road = recovery.model_copy(update={"port": port})
            asking = recover(package, road, board.key.pair, self._options, self._hooks, tls=tls_context(package))
            try:
                found = await self._unless_ended(asking)
            except (LoginRefusedError, LinkLostError, InvalidInputError) as error:
                self._uplink.record("login.not_recovered", port=port, error=error.message)
                continue
            if found is not None:
                board.credentials.on_recovered(found)
                return True
        return False

    async def _unless_ended(
        self, work: Coroutine[Any, Any, T], drop: Callable[[asyncio.Future[T]], None] | None = None
    ) -> T | None:
        """Return the result of `work`, or None if the device is to end first; `drop` then gets the result."""
        working = asyncio.ensure_future(work)
        try:
            while not working.done() and self._uplink.ending is None:
                await self._wait(working)
        except BaseException:
            if drop is not None:
                working.add_done_callback(drop)
            working.cancel()
            raise
        if working.done():
            return working.result()
        working.cancel()
        return None

    async def _talk(self, board: Board, slot: Slot, link: Link) -> None:
        """Exchange messages over `link` until it breaks or the uplink has an ending."""
        self._uplink.record("login.accepted", generation=slot.generation)
        receiving: asyncio.Future[tuple[str, bytes]] | None = None
        fetching: asyncio.Future[ImagePiece | Failure] | None = None
        try:
            await link.subscribe(f"{topics.PREFIX}/d/{self._package.client_id}/down/#")
            board.on_connected(slot)
            active_at = self._hooks.clock()
            while True:
                receiving = receiving or asyncio.ensure_future(self._receive(link))
                fetching = fetching or asyncio.ensure_future(board.fetcher.receive())
                await self._uplink.flush(link)
                sleeps_at = board.sleeps_at(active_at)
                if sleeps_at is not None and self._hooks.clock() >= sleeps_at:
                    self._uplink.end(Ending.SLEEP)
                if self._uplink.ending is not None:
                    break
                times = [time for time in (self._uplink.next_due(), sleeps_at) if time is not None]
                await self._wait(receiving, fetching, until=min(times, default=None))
                if receiving.done() and self._uplink.ending is None:
                    message, receiving = receiving.result(), None
                    board.on_message(*message)
                    link.acknowledge()
                    active_at = self._hooks.clock()
                if fetching.done() and self._uplink.ending is None:
                    board.on_fetched(fetching.result())
                    fetching = None
                    active_at = self._hooks.clock()
            await self._leave(board, link)
        except LinkLostError as error:
            self._uplink.record("link.lost", error=error.message)
        finally:
            link.drop()
            board.fetcher.stop()
            await _abandon(receiving, fetching)

    async def _receive(self, link: Link) -> tuple[str, bytes]:
        """Return the next message, delayed if the device is configured as slow."""
        idle = link.waiting == 0
        message = await link.receive()
        if idle and self._options.slow_s:
            await asyncio.sleep(self._options.slow_s)
            self._uplink.record("message.late", topic=message[0])
        return message

    async def _leave(self, board: Board, link: Link) -> None:
        """Disconnect cleanly; publish `offline` only if the device stays disconnected."""
        try:
            async with asyncio.timeout(self._options.disconnect_timeout_s):
                if self._uplink.ending in {Ending.STOP, Ending.SLEEP}:
                    address = topics.STATUS.of(client_id=self._package.client_id)
                    offline = topics.STATUS.encode(board.goodbye(asleep=self._uplink.ending is Ending.SLEEP))
                    await link.publish(address, offline, qos=topics.STATUS.qos, retain=topics.STATUS.retain)
                await link.close()
        except TimeoutError:
            self._uplink.record("link.lost", error="timeout while disconnecting")
        self._uplink.record("link.closed", reason=str(self._uplink.ending))

    async def _wait(self, *futures: asyncio.Future[Any], until: float | None = None) -> None:
        """Wait for a future, a time, `stop`, or what ends by itself, as a trial."""
        if self._stopping is None or self._board is None:
            return
        deadlines = self._board.deadlines()
        times = [at for at, _ in deadlines] + ([] if until is None else [until])
        timeout_s = max(0.0, min(times) - self._hooks.clock()) if times else None
        await asyncio.wait({*futures, self._stopping}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._stopping.done():
            self._uplink.end(Ending.STOP)
            return
        now = self._hooks.clock()
        for _, end in [(at, end) for at, end in deadlines if now >= at]:
            end()
