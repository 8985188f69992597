"""Recovery: the broker refuses every secret, and the device asks for the one in force with its key."""

import json
import os
from binascii import hexlify

from mdm import crypto, mqtt, slots
from mdm.login import dial


def recover(device, profile, way):
    """Return the package with the secret in force, or None if there is no answer; raise OSError or RefusedError.

    `way` is the `recovery` of a package: port, account, password, server_key.
    """
    nonce = hexlify(os.urandom(16)).decode()
    client_id, account = device.package["client_id"], way["account"]
    mac = crypto.recovery_mac(device.key.private, way["server_key"], f"recover:{client_id}:{nonce}")
    connect = mqtt.connect_packet(account, account, way["password"], clean=True)
    link = dial(device, profile, way["port"], device.profiles.tls, connect)
    try:
        base = f"mdm/v1/recover/{account}/"
        link.subscribe(base + "answer/" + nonce)
        link.publish(base + "request", json.dumps({"client_id": client_id, "nonce": nonce, "mac": mac}))
        until = device.clock.ms() + device.answer_ms
        while device.clock.ms() < until:
            message = link.receive(200)
            if message is not None and message[1] is not None:
                link.acknowledge()
                return opened(message[1], device.key.private, client_id)
        return None
    finally:
        link.close()


def opened(payload, private, client_id=None):
    """Return the package in an answer, or None if none is sealed for us."""
    try:
        package = json.loads(crypto.open_jwe(json.loads(payload)["jwe"], private))
        fits = slots.is_secret(package["secret"]) and client_id in (None, package["client_id"])
        return package if fits and package["secret_generation"] >= 0 else None
    except (ValueError, KeyError, TypeError):
        return None
