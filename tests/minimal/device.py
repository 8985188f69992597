"""A device written from docs/write-a-device.md alone: `python device.py PACKAGE RECORD [QOS]`.

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
import secrets
import ssl
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

REFUSED = {4, 5, 0x86, 0x87}
NO_ANSWER = -1
REPEAT_S = 1.0
SETTLING_S = 5.0
ANSWER_S = 10.0
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


def recovery_mac(own: X25519PrivateKey, server_key: str, client_id: str, nonce: str) -> str:
    z = own.exchange(X25519PublicKey.from_public_bytes(from_b64url(server_key)))
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"mdm/v1/recover").derive(z)
    return hmac.new(key, f"recover:{client_id}:{nonce}".encode(), hashlib.sha256).hexdigest()


class Record:
    """What survives a power cut: the key, two slots, how to recover, and the configuration."""

    def __init__(self, file: Path, package: dict[str, Any]) -> None:
        self.file = file
        self.now: dict[str, Any] = {"first": slot_of(package), "second": None, "config": None, "recovery": None}
        self.now |= json.loads(file.read_text()) if file.exists() else {}
        if "key" not in self.now:
            self.change(key=b64url(X25519PrivateKey.generate().private_bytes_raw()))

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

    def __init__(self, package: dict[str, Any], record: Record, qos: int) -> None:
        self.package, self.record, self.qos = package, record, qos
        self.base = f"mdm/v1/d/{package['client_id']}/"
        self.client: mqtt.Client
        self.login: dict[str, Any] = {}
        self.wanted: dict[str, Any] | None = None
        self.key = X25519PrivateKey.from_private_bytes(from_b64url(record.now["key"]))
        self.public_key = b64url(self.key.public_key().public_bytes_raw())
        self.answer = NO_ANSWER
        self.asking = self.leaving = self.key_told = False
        self.refused_at = -math.inf
        self.request_id = ""
        self.boot = secrets.randbits(32)
        self.started_at: datetime | None = None

    @property
    def second(self) -> dict[str, Any] | None:
        second: dict[str, Any] | None = self.record.now["second"]
        return second

    # ---- step 3: connect ----
    def run(self) -> None:
        pause_s = PAUSE_S[0]
        while True:
            for slot in filter(None, (self.second, self.record.now["first"])):
                self.login = slot
                self.live()
                if self.answer not in REFUSED:
                    break
                self.refused_at = time.monotonic()
            else:
                self.recover()
            pause_s = PAUSE_S[0] if self.answer == 0 else min(2 * pause_s, PAUSE_S[1])
            time.sleep(pause_s)

    def live(self) -> None:
        """Log in with the slot and stay until the connection is lost."""
        self.answer, self.leaving = NO_ANSWER, False
        client_id = self.package["client_id"]
        self.client = self.new_client(client_id, client_id, self.login["secret"], clean=False)
        offline = {"online": False, "secret_generation": self.login["generation"]}
        self.client.will_set(self.base + "up/status", json.dumps(offline), qos=1, retain=True)
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

    def new_client(self, client_id: str, username: str, password: str, *, clean: bool) -> mqtt.Client:
        version, v311 = CallbackAPIVersion.VERSION2, mqtt.MQTTv311
        client = mqtt.Client(version, client_id, clean_session=clean, protocol=v311, manual_ack=not clean)
        client.username_pw_set(username, password)
        if self.package["mqtt_tls"]:
            client.tls_set_context(ssl.create_default_context(cadata=self.package["ca_certificate"]))
        return client

    def on_connect(
        self, _client: object, _data: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        self.answer = code.value
        if self.answer == 0:
            self.client.subscribe(self.base + "down/#", qos=1)
            running = {"online": True, "firmware_version": "1.0.0", "boot": self.boot}
            self.send("status", {**running, "secret_generation": self.login["generation"]}, retain=True)
            self.asking, self.key_told, self.request_id = True, False, secrets.token_hex(4)

    def send(self, what: str, payload: dict[str, Any], *, retain: bool = False) -> None:
        self.client.publish(self.base + "up/" + what, json.dumps(payload), qos=self.qos, retain=retain)

    def on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        handle = {
            "key": self.on_key,
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

    # ---- step 2: have a key ----
    def on_key(self, known: dict[str, Any]) -> None:
        self.key_told = True
        if known["public_key"] == self.public_key:
            self.record.change(recovery=known["recovery"])

    # ---- step 4: be configured ----
    def on_config(self, config: dict[str, Any]) -> None:
        known = self.record.now["config"]
        if config.get("request_id") == self.request_id:
            self.asking = False
            self.started_at = datetime.fromisoformat(config["time"]) - timedelta(seconds=time.monotonic())
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

    # ---- step 5: take a new secret ----
    def say_what_is_due(self) -> None:
        if not self.key_told:
            proven = proof(self.login["secret"], "key", self.public_key)
            self.send("key", {"public_key": self.public_key, "proof": proven})
        if self.asking:
            known = self.record.now["config"]
            self.send(
                "config/get",
                {"request_id": self.request_id, **({"have_version": known["version"]} if known else {})},
            )
        present = self.record.now["first"]["secret"]
        if self.second and (rotation_id := self.second["rotation_id"]):
            purpose = "ack" if self.login == self.second else "stored"
            said = {"rotation_id": rotation_id, "proof": proof(self.second["secret"], purpose, rotation_id)}
            if purpose == "stored":
                said["current_proof"] = proof(present, "current", rotation_id)
            self.send(f"rotation/{purpose}", said)
        elif self.wanted and not self.second and self.in_time(self.wanted):
            rotation_id = self.wanted["rotation_id"]
            asked = {"public_key": self.public_key, "proof": proof(present, "request", rotation_id)}
            self.send("rotation/request", {"rotation_id": rotation_id, **asked})

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
        if not self.in_time(offer):
            self.wanted = None
            return
        self.wanted = offer
        self.say_what_is_due()

    def in_time(self, offer: dict[str, Any]) -> bool:
        """By the server's time: there is no other clock. Before its first message, all is in time."""
        if self.started_at is None:
            return True
        now = self.started_at + timedelta(seconds=time.monotonic())
        return now < datetime.fromisoformat(offer["deadline"])

    def on_secret(self, message: dict[str, Any]) -> None:
        wanted = self.wanted
        if wanted is None or self.second or "jwe" not in message or not self.in_time(wanted):
            return
        if (message["rotation_id"], message["generation"]) != (wanted["rotation_id"], wanted["generation"]):
            return
        second = {
            "secret": open_jwe(message["jwe"], self.key),
            "generation": message["generation"],
            "rotation_id": message["rotation_id"],
        }
        self.record.change(second=second)
        self.wanted = None
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

    # ---- step 6: recover ----
    def recover(self) -> None:
        """Ask for the secret in force, and put it into the second slot."""
        recovery = self.record.now["recovery"] or self.package.get("recovery")
        if not recovery:
            return
        nonce, answers = secrets.token_hex(16), list[bytes]()
        client_id, account = self.package["client_id"], recovery["account"]
        mac = recovery_mac(self.key, recovery["server_key"], client_id, nonce)
        client = self.new_client(account, account, recovery["password"], clean=True)

        def ask(*_: object) -> None:
            client.subscribe(f"mdm/v1/recover/{account}/answer/{nonce}", qos=1)
            request = {"client_id": client_id, "nonce": nonce, "mac": mac}
            client.publish(f"mdm/v1/recover/{account}/request", json.dumps(request), qos=1)

        client.on_connect = ask
        client.on_message = lambda _client, _data, message: answers.append(bytes(message.payload))
        until = time.monotonic() + ANSWER_S
        try:
            client.connect(self.package["mqtt_host"], recovery["port"])
            while not answers and time.monotonic() < until and client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
                pass
        except OSError:
            return
        finally:
            client.disconnect()
        if answers:
            self.take(slot_of(json.loads(open_jwe(json.loads(answers[0])["jwe"], self.key))))

    def take(self, slot: dict[str, Any]) -> None:
        """Store a recovered secret; one that is in a slot already gets the generation that it has."""
        name = "first" if slot["secret"] == self.record.now["first"]["secret"] else "second"
        known = self.record.now[name]
        if known and known["secret"] == slot["secret"]:
            slot["rotation_id"] = known["rotation_id"]
        self.record.change(**({"second": None} | {name: slot}))


def slot_of(package: dict[str, Any]) -> dict[str, Any]:
    return {"secret": package["secret"], "generation": package["secret_generation"], "rotation_id": None}


def main() -> None:
    package = json.loads(Path(sys.argv[1]).read_text())
    qos = int(sys.argv[3]) if sys.argv[3:] else 1
    Device(package, Record(Path(sys.argv[2]), package), qos).run()


if __name__ == "__main__":
    main()
