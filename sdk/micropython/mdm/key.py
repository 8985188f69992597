"""The key that only this device has: made before its first login, registered, and used to open and to recover."""

import os

from mdm import crypto

_KEY = "key"
_DAY_MS = 24 * 3600 * 1000


class DeviceKey:
    """The key pair in the record `key`, and how to recover with it in the record `recovery`."""

    def __init__(self, device):
        self._device = device
        self._answered_at = None
        self.private, self.public = load_or_make(device.store)

    def recovery(self):
        """Return how to recover: what the server sent last, else what the package has, or None."""
        return self._device.store.read("recovery") or self._device.package.get("recovery")

    def on_connected(self):
        """Register the key until the server answers: once for each start, and each day."""
        if self._answered_at is None or self._device.clock.ms() >= self._answered_at + _DAY_MS:
            self._device.repeat(_KEY, self._message, self._device.retry_ms, slowing=True)

    def on_known(self, known):
        """Store how to recover; with another key than ours on record there is no way."""
        self._device.stop_repeating(_KEY)
        self._answered_at = self._device.clock.ms()
        if known["public_key"] != self.public:
            self._device.log("key: another one is registered", "error")
        elif known.get("recovery") not in (None, self._device.store.read("recovery")):
            self._device.store.write("recovery", known["recovery"])

    def _message(self):
        proof = crypto.proof(self._device.credentials.secret(), "key:" + self.public)
        return "key", {"public_key": self.public, "proof": proof}


def load_or_make(store):
    """Return the private key as bytes and the public one in base64url; both are stored before their first use."""
    record = store.read("key")
    if record is None:
        private = _random(32)
        record = {"d": crypto.b64url(private), "x": crypto.b64url(crypto.public_half(private))}
        store.write("key", record)
    return crypto.from_b64url(record["d"]), record["x"]


def _random(count):
    """Return random bytes. Those of an ESP32 are true ones only while its radio is on."""
    try:
        from network import STA_IF, WLAN

        station = WLAN(STA_IF)
        was_on = station.active()
        station.active(True)
    except ImportError:
        return os.urandom(count)
    made = os.urandom(count)
    station.active(was_on)
    return made
