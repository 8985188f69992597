"""A device written from docs/write-a-device.md alone: `python device.py PACKAGE RECORD`.

It knows nothing of this repository's code: only the standard library, paho-mqtt and cryptography.
One loop, as firmware has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import os
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

REFUSED = {4, 5, 0x86, 0x87}
NO_ANSWER = -1
REPEAT_S = 1.0
SETTLING_S = 5.0
PAUSE_S = (0.2, 5.0)


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def proof(secret: str, purpose: str, rotation_id: str) -> str:
    return hmac.new(secret.encode(), f"{purpose}:{rotation_id}".encode(), hashlib.sha256).hexdigest()


def open_jwe(jwe: str, own: X25519PrivateKey) -> str:
    header, _, iv, ciphertext, tag = jwe.split(".")
    sender = X25519PublicKey.from_public_bytes(from_b64url(json.loads(from_b64url(header))["epk"]["x"]))
    z = own.exchange(sender)
    hashed = bytes.fromhex("00000001") + z + bytes.fromhex("00000007") + b"A256GCM"
    key = hashlib.sha256(hashed + bytes.fromhex("000000000000000000000100")).digest()
    return (
        AESGCM(key).decrypt(from_b64url(iv), from_b64url(ciphertext) + from_b64url(tag), header.encode()).decode()
    )


class Record:
    """What survives a power cut: two slots, and the configuration."""

    def __init__(self, file: Path, package: dict[str, Any]) -> None:
        self.file = file
        first = {"secret": package["secret"], "generation": package["secret_generation"], "rotation_id": None}
        fresh = {"first": first, "second": None, "config": None}
        self.now: dict[str, Any] = json.loads(file.read_text()) if file.exists() else fresh

    def change(self, **what: object) -> None:
        """Replace the whole record in one durable step."""
        self.now = {**self.now, **what}
        fresh = self.file.with_suffix(".new")
        with fresh.open("w") as stream:
            json.dump(self.now, stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self.file)
        folder = os.open(self.file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Device:
    """One device; `login` names the slot that the present connection was made with."""

    def __init__(self, package: dict[str, Any], record: Record) -> None:
        self.package, self.record = package, record
        self.base = f"mdm/v1/d/{package['client_id']}/"
        self.client: mqtt.Client
        self.login: dict[str, Any] = {}
        self.wanted: dict[str, Any] | None = None
        self.own_key: X25519PrivateKey | None = None
        self.answer = NO_ANSWER
        self.asking = self.leaving = False
        self.refused_at = -math.inf

    @property
    def second(self) -> dict[str, Any] | None:
        second: dict[str, Any] | None = self.record.now["second"]
        return second

    # ---- step 2: connect ----
    def run(self) -> None:
        pause_s = PAUSE_S[0]
        while True:
            for slot in filter(None, (self.second, self.record.now["first"])):
                self.login = slot
                self.live()
                if self.answer not in REFUSED:
                    break
                self.refused_at = time.monotonic()
            pause_s = PAUSE_S[0] if self.answer == 0 else min(2 * pause_s, PAUSE_S[1])
            time.sleep(pause_s)

    def live(self) -> None:
        """Log in with the slot and stay until the connection is lost."""
        self.answer, self.leaving = NO_ANSWER, False
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            self.package["client_id"],
            clean_session=False,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
        )
        self.client.username_pw_set(self.package["client_id"], self.login["secret"])
        self.client.will_set(self.base + "up/status", '{"online":false}', qos=1, retain=True)
        if self.package["mqtt_tls"]:
            self.client.tls_set_context(ssl.create_default_context(cadata=self.package["ca_certificate"]))
        self.client.on_connect = self.on_connect
        self.client.on_message = self.on_message
        due_at = 0.0
        try:
            self.client.connect(self.package["mqtt_host"], self.package["mqtt_port"], keepalive=10)
            while not self.leaving and self.client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
                if self.answer == 0 and time.monotonic() >= due_at:
                    due_at = time.monotonic() + REPEAT_S
                    self.say_what_is_due()
        except OSError:
            return
        finally:
            self.client.disconnect()
            self.client.loop(0.1)

    def on_connect(
        self, _client: object, _data: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        self.answer = code.value
        if self.answer == 0:
            self.client.subscribe(self.base + "down/#", qos=1)
            status = {"online": True, "firmware_version": "1.0.0", "secret_generation": self.login["generation"]}
            self.send("status", status, retain=True)
            self.asking = True

    def send(self, what: str, payload: dict[str, Any], *, retain: bool = False) -> None:
        self.client.publish(self.base + "up/" + what, json.dumps(payload), qos=1, retain=retain)

    def on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        handle = {
            "config": self.on_config,
            "rotation/offer": self.on_offer,
            "rotation/secret": self.on_secret,
            "rotation/switch": self.on_switch,
            "rotation/done": self.on_done,
            "rotation/cancelled": self.on_cancelled,
        }.get(message.topic.removeprefix(self.base + "down/"))
        if handle is not None:
            handle(json.loads(message.payload))
        client.ack(message.mid, message.qos)

    # ---- step 3: be configured ----
    def on_config(self, config: dict[str, Any]) -> None:
        known = self.record.now["config"]
        if "request_id" in config:
            self.asking = False
        late = known and config["version"] < known["version"] and "request_id" not in config
        if "document" in config and "trial_seconds" in config:
            refusal = {"version": config["version"], "outcome": "rejected", "error": "no trials here"}
            self.send("config/report", refusal)
        elif "document" in config and not late:
            if not known or known["version"] != config["version"]:
                self.record.change(config={"version": config["version"], "document": config["document"]})
            self.send("config/report", {"version": config["version"], "outcome": "applied"})
        if self.second and config["secret_generation"] == self.second["generation"]:
            self.promote()

    # ---- step 4: take a new secret ----
    def say_what_is_due(self) -> None:
        if self.asking:
            known = self.record.now["config"]
            self.send("config/get", {"request_id": "c1", **({"have_version": known["version"]} if known else {})})
        if self.second:
            purpose = "ack" if self.login == self.second else "stored"
            rotation_id = self.second["rotation_id"]
            self.send(
                f"rotation/{purpose}",
                {"rotation_id": rotation_id, "proof": proof(self.second["secret"], purpose, rotation_id)},
            )
        elif self.wanted and self.own_key and in_time(self.wanted):
            public_key = b64url(self.own_key.public_key().public_bytes_raw())
            self.send("rotation/request", {"rotation_id": self.wanted["rotation_id"], "public_key": public_key})

    def on_offer(self, offer: dict[str, Any]) -> None:
        first = self.record.now["first"]
        if self.second and offer["rotation_id"] == self.second["rotation_id"]:
            self.say_what_is_due()
            return
        if offer["generation"] <= max(slot["generation"] for slot in filter(None, (first, self.second))):
            return
        if self.second and offer["current_generation"] == self.second["generation"]:
            self.promote()
        elif offer["current_generation"] != first["generation"]:
            return
        elif self.second:
            self.discard()
        another = self.wanted and self.wanted["rotation_id"] != offer["rotation_id"]
        if self.wanted and another and self.wanted["generation"] >= offer["generation"]:
            return
        if not in_time(offer):
            self.wanted = None
            return
        if not self.wanted or another:
            self.own_key = X25519PrivateKey.generate()
        self.wanted = offer
        self.say_what_is_due()

    def on_secret(self, message: dict[str, Any]) -> None:
        wanted, key = self.wanted, self.own_key
        if wanted is None or key is None or self.second or "jwe" not in message or not in_time(wanted):
            return
        if (message["rotation_id"], message["generation"]) != (wanted["rotation_id"], wanted["generation"]):
            return
        second = {
            "secret": open_jwe(message["jwe"], key),
            "generation": message["generation"],
            "rotation_id": message["rotation_id"],
        }
        self.record.change(second=second)
        self.wanted = self.own_key = None
        self.say_what_is_due()

    def on_switch(self, message: dict[str, Any]) -> None:
        ours = self.second and message["rotation_id"] == self.second["rotation_id"]
        if ours and self.login != self.second and time.monotonic() - self.refused_at > SETTLING_S:
            self.leaving = True

    def on_done(self, message: dict[str, Any]) -> None:
        if self.second and message["rotation_id"] == self.second["rotation_id"]:
            self.promote()

    def on_cancelled(self, message: dict[str, Any]) -> None:
        if self.wanted and message["rotation_id"] == self.wanted["rotation_id"]:
            self.wanted = None
        if self.second and message["rotation_id"] == self.second["rotation_id"]:
            self.discard()

    def promote(self) -> None:
        self.record.change(first=self.second, second=None)
        self.leaving = self.login != self.record.now["first"]

    def discard(self) -> None:
        self.record.change(second=None)
        self.leaving = self.login != self.record.now["first"]


def in_time(offer: dict[str, Any]) -> bool:
    return datetime.fromisoformat(offer["deadline"]) > datetime.now(UTC)


def main() -> None:
    package = json.loads(Path(sys.argv[1]).read_text())
    Device(package, Record(Path(sys.argv[2]), package)).run()


if __name__ == "__main__":
    main()
