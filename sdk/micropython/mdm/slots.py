"""The secrets of the device: two slots in one record, and the messages of a rotation about them."""

from mdm import crypto, rotation
from mdm.clock import seconds
from mdm.storage import StorageError

_SETTLING_MS = 5000
_KEY = "rotation"


def is_secret(value):
    """Return whether a text may be a secret: 32 to 255 printable characters of ASCII."""
    return isinstance(value, str) and 32 <= len(value) <= 255 and all("!" <= it <= "~" for it in value)


def slot_of(package):
    """Return the package's secret as a slot."""
    return {"secret": package["secret"], "generation": package["secret_generation"], "rotation_id": None}


class Credentials:
    """The slots in the record `slots`; `login` is the generation of the present login, None before the first."""

    def __init__(self, device):
        self._device = device
        self._spare = slot_of(device.package)
        self._wanted = None
        self._refused_at = None
        self.login = None
        stored = device.store.read("slots")
        if stored is None:
            self._write((self._spare, None))
        else:
            try:
                self._slots = (stored["first"], stored["second"])
                rotation.login_order(self._slots, self._spare)
            except (KeyError, TypeError):
                raise StorageError("slots: is damaged: it has no two slots")

    def login_order(self):
        """Return the slots to try, best first; the package's secret last, if it is newer."""
        return rotation.login_order(self._slots, self._spare)

    def secret(self):
        """Return the secret that the device is logged in with, else the best one."""
        order = self.login_order()
        for slot in order:
            if slot["generation"] == self.login:
                return slot["secret"]
        return order[0]["secret"]

    def on_refused(self):
        """Note when the broker refused a secret last."""
        self._refused_at = self._device.clock.ms()

    def on_login(self, slot):
        """Begin what is due after a login."""
        self.login = slot["generation"]
        self._begin()

    def on_recovered(self, package):
        """Store the secret in force; it is tried at the next login."""
        self._write(rotation.recovered(self._slots, slot_of(package)))

    def on_offer(self, offer):
        """Want a new secret, repeat what is due for one that is stored, or ignore what is late."""
        offer["deadline"] = seconds(offer["deadline"])
        now = self._device.clock.now()
        change, self._wanted, ours = rotation.on_offer(self._slots, self._wanted, offer, now)
        self._settle(change)
        if ours:
            self._begin()

    def on_secret(self, message):
        """Store the wanted secret durably, and only then say so; a plain one is ignored."""
        if not rotation.takes_secret(self._slots, self._wanted, message, self._device.clock.now()):
            return
        secret = crypto.open_jwe(message["jwe"], self._device.key.private)
        if not is_secret(secret):
            raise ValueError("secret: must be 32 to 255 printable characters")
        slot = {"secret": secret, "generation": message["generation"], "rotation_id": message["rotation_id"]}
        self._write((self._slots[0], slot))
        self._wanted = None
        self._device.log(f"rotation: stored generation {slot['generation']}")
        self._begin()

    def on_switch(self, message):
        """Log in with the second slot; after a refusal only later, or a wrong announcement would never end."""
        if not rotation.must_switch(self._slots, self.login, message["rotation_id"]):
            return
        if self._refused_at is None or self._device.clock.ms() - self._refused_at > _SETTLING_MS:
            self._device.end("switch")

    def on_done(self, message):
        """Keep the second slot."""
        self._settle(rotation.on_ended(self._slots, message["rotation_id"], rotation.PROMOTE))

    def on_cancelled(self, message):
        """Give up the rotation: the old secret is in force."""
        if self._wanted is not None and self._wanted["rotation_id"] == message["rotation_id"]:
            self._wanted = None
            self._device.stop_repeating(_KEY)
        self._settle(rotation.on_ended(self._slots, message["rotation_id"], rotation.DISCARD))

    def on_confirmed(self, generation):
        """Settle a rotation whose `done` was lost, or take the package's secret: this generation is in force."""
        if generation == self._spare["generation"] and rotation.is_spare(self._slots, self._spare):
            self._write(rotation.adopted(self._slots, self._spare))
        else:
            self._settle(rotation.on_confirmed(self._slots, generation))

    def _settle(self, change):
        if change == rotation.KEEP:
            return
        self._write(rotation.changed(self._slots, change))
        self._device.log(f"rotation: the second slot: {change}")
        self._device.stop_repeating(_KEY)
        if rotation.is_orphan(self._slots, self.login):
            self._device.end("switch")

    def _begin(self):
        self._device.repeat(_KEY, self._due, self._device.retry_ms, slowing=True)

    def _due(self):
        (first, second), wanted = self._slots, self._wanted
        due = rotation.due(self._slots, wanted, self.login, self._device.clock.now())
        if due == "request":
            rotation_id = wanted["rotation_id"]
            proof = crypto.proof(first["secret"], "request:" + rotation_id)
            return "rotation/request", {
                "rotation_id": rotation_id,
                "public_key": self._device.key.public,
                "proof": proof,
            }
        if due is None or second["rotation_id"] is None:
            return None
        rotation_id = second["rotation_id"]
        said = {"rotation_id": rotation_id, "proof": crypto.proof(second["secret"], due + ":" + rotation_id)}
        if due == "stored":
            said["current_proof"] = crypto.proof(first["secret"], "current:" + rotation_id)
        return "rotation/" + due, said

    def _write(self, slots):
        self._device.store.write("slots", {"first": slots[0], "second": slots[1]})
        # Only after the record: memory must never be ahead of the flash.
        self._slots = slots
