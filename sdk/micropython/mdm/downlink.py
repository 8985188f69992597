"""What a device receives: each message goes to the part that it is for."""

import json
import sys

from mdm import package as packages
from mdm import tls
from mdm.clock import seconds
from mdm.uplink import Uplink

_LEVEL = len("down/")


class Downlink(Uplink):
    """The incoming messages, of a device with all its parts or of a machine without an identity."""

    def route(self):
        """Note which part takes which message, by its topic below `down/`."""
        self._routes = {
            "config": self._on_config_message,
            "connection": self.profiles.on_offer,
            "rotation/offer": self.credentials.on_offer,
            "rotation/secret": self.credentials.on_secret,
            "rotation/switch": self.credentials.on_switch,
            "rotation/done": self.credentials.on_done,
            "rotation/cancelled": self.credentials.on_cancelled,
            "key": self.key.on_known,
            "command": self.commands.on_command,
            "firmware/offer": self._on_firmware_offer,
            "firmware/cancelled": self._on_firmware_cancelled,
        }

    def handle(self, topic, payload):
        """Pass a message to its part; one that breaks the protocol is logged, and never comes again."""
        try:
            if payload is None:
                self.log(f"message {topic}: there is no room for it", "error")
            elif self._machine:
                self._on_answer(payload)
            else:
                self._route(topic[len(self._base) + _LEVEL :], payload)
                self._publish_status()
        except (ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
            self.log(f"message {topic}: {error!r}", "error")

    def _route(self, name, payload):
        if name.startswith("firmware/chunk/") and self.firmware:
            _, _, sha256, offset = name.split("/")
            self.firmware.on_piece(sha256, int(offset), payload)
        elif name in self._routes:
            self._routes[name](json.loads(payload))

    def _on_answer(self, payload):
        """Become the device of the package, if the answer has one."""
        granted = self._machine.on_answer(payload)
        if granted is not None:
            self.store.write("package", packages.check(granted))
            self.package = granted
            self._link.acknowledge()
            self._link.disconnect()
            self._link = self._machine = self._parts = None

    def _on_config_message(self, config):
        answers = self.config.on_config(config)
        self._adjust(config, answers)
        self.credentials.on_confirmed(config["secret_generation"])
        if answers:
            self.profiles.on_answered()
            if self.firmware:
                self.firmware.on_healthy()

    def _on_firmware_offer(self, offer):
        if self.firmware:
            self._adjust(offer, self.firmware.on_offer(offer))
        elif offer.get("sha256"):
            error = "this board has no second slot for an image"
            self.send("firmware/report", {"sha256": offer["sha256"], "stage": "failed", "error": error})

    def _on_firmware_cancelled(self, message):
        if self.firmware:
            self.firmware.on_cancelled(message)

    def _adjust(self, message, is_answer):
        """Take the server's time."""
        if message.get("time"):
            self.clock.adjust(message["time"], is_answer)
            if is_answer and sys.platform == "esp32":
                tls.correct_board_clock(seconds(message["time"]), tls.DAY_S)
