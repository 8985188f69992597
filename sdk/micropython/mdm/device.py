"""A device: one object, whose `poll` does what is due. docs/protocol.md has all rules."""

import os
import random
import sys
import time

from mdm import login, storage
from mdm import package as packages
from mdm.clock import Clock
from mdm.commands import Commands
from mdm.config import Configuration
from mdm.connection import Profiles
from mdm.downlink import Downlink
from mdm.key import DeviceKey
from mdm.log import Log
from mdm.slots import Credentials

_CAUSES = {1: "poweron", 2: "ext", 3: "wdt", 4: "deepsleep", 5: "sw"}
_WAKE_INTERVAL_MAX_S = 2592000
_SLEEP_MAX_MS = 0x7FFFFFFF  # what `machine` takes


class Device(Downlink):
    """A device with the identity of a package, or a machine with a claim package that asks for one first.

    `commands` are functions by name: each gets the arguments and returns a dict, or None. `on_config` gets each
    document and returns None, or why it cannot be applied; `self_test` does so for a new image. With `networks`,
    a list of dicts with `ssid` and `password`, the device joins Wi-Fi itself. With `wake_interval_s` it sleeps so
    long between short connections. All times are attributes, to be changed before the first `poll`.
    """

    retry_ms = 5000
    claim_retry_ms = 60000
    sweep_ms = 3600000
    pause_ms = 1000
    pause_max_ms = 60000
    stable_ms = 10000
    answer_ms = 10000
    verify_ms = 120000
    turn_ms = 3600000
    silent_ms = 24 * 3600000
    quiet_ms = 2000
    awake_ms = 180000
    keepalive_s = 30

    def __init__(
        self,
        version,
        package=None,
        store=None,
        commands=None,
        on_config=None,
        self_test=None,
        networks=None,
        uid=None,
        wake_interval_s=None,
    ):
        if wake_interval_s is not None and not 1 <= wake_interval_s <= _WAKE_INTERVAL_MAX_S:
            raise ValueError(f"wake_interval_s: must be 1 to {_WAKE_INTERVAL_MAX_S}")
        self._boot = int.from_bytes(os.urandom(4), "big")
        super().__init__(Clock(), Log(self._boot))
        self.version = version
        self.store = store or storage.default()
        self.networks = networks
        self.uid = uid
        self.wake_interval_s = wake_interval_s
        self.chip = getattr(sys.implementation, "_machine", None) if sys.platform == "esp32" else None
        self._handlers = commands or {}
        self._on_config = on_config
        self._self_test = self_test
        self._failures = 0
        self._retry_at = 0
        self._connected_at = None
        self._told = None
        self._machine = None
        self._parts = None
        self.package = package or packages.load()
        if packages.is_claim(self.package):
            granted = self.store.read("package")
            if granted is None:
                from mdm.claim import Machine

                self._machine = Machine(self, self.package)
            else:
                self.package = granted

    @property
    def document(self):
        """The configuration that is applied; empty before the first one."""
        self._start()
        return {} if self._machine else self.config.document

    @property
    def connected(self):
        """Whether the device is logged in with an identity of its own."""
        return self._link is not None and not self._machine

    def poll(self, wait_ms=0):
        """Do what is due, for about `wait_ms`; return whether the device is logged in.

        A login takes as long as the network does: with a broker that is silent, half a minute and more.
        """
        self._start()
        self._try(self._tick)
        if self._link is not None:
            self._try(self._talk, wait_ms)
        elif self._ending == "reboot":
            self.restart()
        else:
            left_ms = self._retry_at - self.clock.ms()
            if left_ms > 0:
                time.sleep_ms(min(left_ms, wait_ms))
            else:
                self._try(self._connect)
        if self._is_tired():
            self._fall_asleep()
        return self.connected

    def publish(self, name, message, retain=False):
        """Publish bytes, a text or what JSON can have on the own topic `app/{client_id}/up/{name}`.

        Return whether the device is connected; else the message is dropped.
        """
        if self.connected:
            self.send(f"app/{self.package['client_id']}/up/{name}", message, retain)
        return self.connected

    def vitals(self, numbers):
        """Report numbers about the board by name, the unit at its end, as `{"heap_free_bytes": gc.mem_free()}`."""
        if self.connected:
            self.send("vitals", numbers)

    def run(self):
        """Poll without an end."""
        while True:
            self.poll(1000)

    def stop(self):
        """Say that the device goes, and end the connection; `poll` would begin another one."""
        self._leave("stop")

    def restart(self):
        """Restart the board."""
        import machine

        machine.reset()

    def sleep(self):
        """Sleep until the next wake-up, which is a start, also of a sleep that returns."""
        import machine

        machine.deepsleep(min(self.wake_interval_s * 1000, _SLEEP_MAX_MS))

    def configure(self, document):
        """Let the application check and apply a document; return None, or what is wrong with it, in a line."""
        if self._on_config is None:
            return None
        try:
            error = self._on_config(document)
        except Exception as failure:  # noqa: BLE001 - whatever the application raises is what is wrong
            error = repr(failure)
        return error and str(error)[:200]

    def self_test(self):
        """Return None, or what is wrong with the running image, in a line."""
        return self._self_test() if self._self_test else None

    def is_on_trial(self):
        """Return whether a configuration or an image is on trial."""
        return self.config.is_on_trial() or (self.firmware is not None and self.firmware.is_on_trial())

    def _start(self):
        """Make the parts of the device, unless that is done: so late that times can be changed before."""
        if self._parts is not None:
            return
        self._active_at = self.clock.ms()
        if self._machine:
            self._parts = []
            return
        self.key = DeviceKey(self)
        self.profiles = Profiles(self)
        self.credentials = Credentials(self)
        self.config = Configuration(self)
        self.commands = Commands(self, self._handlers)
        self.firmware = self._updater()
        self.route()
        self._base = f"mdm/v1/d/{self.package['client_id']}/"
        self._parts = [self.config, self.profiles] + ([self.firmware] if self.firmware else [])

    def _updater(self):
        """Return the part for updates, or None if this board has no second slot."""
        from mdm import flash

        found = flash.slots()
        if found is None:
            return None
        from mdm.firmware import Firmware

        return Firmware(self, found)

    def _tick(self):
        for part in self._parts:
            part.on_tick()

    def _try(self, work, *arguments):
        """Do some work on the connection; if that is lost, drop it and wait a while."""
        try:
            work(*arguments)
        except (OSError, MemoryError) as error:
            now = self.clock.ms()
            lived = self._connected_at is not None and now - self._connected_at >= self.stable_ms
            self._failures = 1 if lived else self._failures + 1
            # The first loss is followed at once: the broker may have ended it to demand the new secret.
            at_once = self._connected_at is not None and self._failures == 1
            pause_ms = min(self.pause_max_ms, self.pause_ms << min(self._failures, 16) - 1)
            self._retry_at = now if at_once else now + (pause_ms + pause_ms * random.getrandbits(8) // 256) // 2
            self._connected_at = None
            if self._link is not None:
                self._link.close()
                self._link = None
            self.log(f"connection: lost: {error}", "warning")

    def _is_tired(self):
        """Return whether it is time to sleep: all is answered and nothing came for a moment, or for minutes."""
        if self.wake_interval_s is None or self._ending is not None:
            return False
        # What was answered is asked again after a sweep; all else that is repeated is due sooner.
        soon_ms = self.sweep_ms // 2
        is_done = self.connected and not self._once and not self._link.unacknowledged
        limit_ms = self.quiet_ms if is_done and self.due_ms(soon_ms) == soon_ms else self.awake_ms
        return self.clock.ms() - self._active_at >= limit_ms

    def _fall_asleep(self):
        self._leave("sleep")
        if self._link is not None:  # of a machine without an identity, which has no status
            self._link.close()
            self._link = None
        if self.networks:
            from mdm import wifi

            wifi.leave()
        self.sleep()
        self._parts = None
        self._failures = self._retry_at = 0

    def _leave(self, reason):
        if self.connected:
            self._ending = reason
            self._try(self.leave)

    def _connect(self):
        self.begin()
        if self._machine:
            login.join(self, self.package)
            self._link = self._machine.login()
            self._active_at = self.clock.ms()
            return
        self._link, slot = login.log_in(self)
        self._connected_at = self._active_at = self.clock.ms()
        self._told = None
        self.log(f"login: generation {slot['generation']}")
        self._link.subscribe(self._base + "down/#")
        self.credentials.on_login(slot)
        self.key.on_connected()
        self._publish_status()
        self.config.on_connected()
        if self.firmware:
            self.firmware.on_connected()
        self.commands.on_connected()

    def _talk(self, wait_ms):
        """Send and receive for this time; it ends at once when the connection is to end."""
        until = self.clock.ms() + wait_ms
        while self._link is not None:
            if self._machine:
                self._machine.on_tick(self._link)
            else:
                self.flush()
            if self._ending is not None:
                if self.leave() == "reboot":
                    self.restart()
                return
            left_ms = until - self.clock.ms()
            message = self._link.receive(self.due_ms(max(0, left_ms)))
            if message is not None:
                self._active_at = self.clock.ms()
                self.handle(*message)
                if self._link is not None:
                    self._link.acknowledge()
            if left_ms <= 0:
                return

    def _publish_status(self):
        """Publish the status, unless the server has it."""
        status = {"online": True, "firmware_version": self.version, "boot": self._boot, "chip": self.chip}
        status["secret_generation"] = self.credentials.login
        status["config_version"] = self.config.version
        status["wake_interval_s"] = self.wake_interval_s
        if self.firmware:
            status.update(self.firmware.facts())
        if self._told != status:
            self._told = dict(status)
            status.update(_board_facts())
            self.send("status", {name: value for name, value in status.items() if value is not None}, retain=True)


def _board_facts():
    """Return what `up/status` has of the board at this moment."""
    from mdm.wifi import facts

    found = facts()
    try:
        from machine import reset_cause

        found["reset_reason"] = _CAUSES.get(reset_cause())
    except ImportError:
        pass
    return found
