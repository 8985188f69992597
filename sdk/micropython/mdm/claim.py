"""A claim: a machine without an identity asks for one until it is granted."""

import json

from mdm import mqtt, tls
from mdm.key import load_or_make
from mdm.login import dial
from mdm.recovery import opened


def uid():
    """Return the id of this machine's chip: 12 or 16 hexadecimal digits."""
    from binascii import hexlify

    from machine import unique_id

    return hexlify(unique_id()[:8]).decode()


class Machine:
    """A machine with a claim package.

    The device's key is stored before the first request, the package before its first use.
    """

    def __init__(self, device, claim):
        self._device = device
        self._claim = claim
        self._uid = device.uid or uid()
        self._ask_at = 0
        self._private, self._public = load_or_make(device.store)

    def login(self):
        """Log in as the claim's account, and wait for an answer."""
        claim = self._claim
        context = tls.context(claim["ca_certificate"]) if claim["mqtt_tls"] else None
        connect = mqtt.connect_packet(self._uid, claim["account"], claim["password"], clean=True)
        link = dial(self._device, claim, claim["mqtt_port"], context, connect)
        link.subscribe(f"mdm/v1/claim/{claim['account']}/answer/{self._uid}")
        self._ask_at = 0
        return link

    def on_tick(self, link):
        """Ask, unless the last question was a moment ago."""
        if self._device.clock.ms() >= self._ask_at:
            request = json.dumps({"uid": self._uid, "public_key": self._public})
            link.publish(f"mdm/v1/claim/{self._claim['account']}/request", request)
            self._ask_at = self._device.clock.ms() + self._device.retry_ms

    def on_answer(self, payload):
        """Return the package if the identity is granted, else None: an admin may have to approve."""
        answer = json.loads(payload)
        if answer["outcome"] == "granted":
            return opened(payload, self._private)
        self._device.log(f"claim: {answer['outcome']}: {answer.get('reason')}", "warning")
        self._ask_at = self._device.clock.ms() + self._device.claim_retry_ms
        return None
