"""Runs on MicroPython: parts of a device on their own. The second argument is a scratch folder."""

import sys
import time

sys.path[:0] = [sys.argv[1]]

import mdm
from mdm import clock, connection, login, tls, wifi
from network import WLAN

# ---- networks
wifi._JOIN_MS = 300
attic, cellar = {"ssid": "attic", "password": "a password"}, {"ssid": "cellar", "password": "another one"}
assert wifi.facts() == {}
assert wifi.join([cellar, attic])
assert wifi.join([attic])
assert not wifi.join([cellar])
assert wifi.join([{"ssid": "open", "password": ""}])
assert WLAN.log == [("cellar", "another one"), ("attic", "a password"), ("cellar", "another one"), ("open", None)]
assert wifi.facts() == {"rssi_dbm": -61, "ip": "192.0.2.7"}
wifi.leave()
assert not WLAN.is_on


class Station:
    """What a login needs of a device to join a network."""

    networks, package = [cellar], {"wifi": [attic]}


WLAN.joined = None
login.join(Station, {"wifi": None})  # a profile without networks has those of the package
assert WLAN.joined == "attic"
print("networks")

# ---- what is refused
try:
    mdm.Device("1.0.0", wake_interval_s=0)
except ValueError as error:
    print(error)

# ---- connection profiles, whose time is ours


class Stub:
    """What the profiles need of a device."""

    answer_ms, turn_ms, silent_ms = 10, 1000, 5000
    connected = busy = False
    networks = None
    now = 0

    def __init__(self, port, **package):
        self.store = mdm.Files(sys.argv[2])
        self.clock = self.config = self
        self.package = dict({"mqtt_host": "broker", "mqtt_port": port, "mqtt_tls": False}, **package)
        self.asked = 0

    def ms(self):
        return self.now

    def ask(self):
        self.asked += 1

    def log(self, *_words):
        pass

    def end(self, _reason):
        pass

    def is_on_trial(self):
        return self.busy


def started(port, **package):
    device = Stub(port, **package)
    return device, connection.Profiles(device)


device, profiles = started(4)
# Something else on trial: the offer comes again.
offer = {"connection_id": "b", "trial_seconds": 1, "profile": dict(device.package, mqtt_port=5)}
device.busy = True
profiles.on_offer(offer)
assert profiles.profile["mqtt_port"] == 4
device.busy = False
# What cannot be used is asked about once.
for _ in range(2):
    profiles.on_offer(dict(offer, connection_id="c", profile=dict(offer["profile"], wifi=[attic])))
assert (device.asked, profiles.state()["refused"]["outcome"]) == (1, "rejected")
profiles.on_offer(offer)
assert profiles.profile["mqtt_port"] == 5
print("profiles")


# ---- a board's clock that was never set
class Board:
    """Stands for `machine`."""

    ATTN_11DB = 0
    clock = None

    def __init__(self, *_pin, atten=0):
        pass

    def datetime(self, now):
        Board.clock = now

    def read_uv(self):
        return 613_000


Board.RTC = Board.ADC = Board.Pin = Board
sys.modules["machine"] = Board
assert not tls.correct_board_clock(clock.seconds("2025-01-01T00:00:00Z"))
assert not tls.correct_board_clock(clock.count(*time.gmtime()[:6]) + 60, tls.DAY_S)
assert Board.clock is None
assert tls.correct_board_clock(clock.seconds("2037-03-01T05:06:07Z"), tls.DAY_S)
assert Board.clock == (2037, 3, 1, 6, 5, 6, 7, 0)
print("clock")


# ---- the example
class Example:
    """Stands for a device of the example: two polls, then the end."""

    document = {"interval_s": 60, "alarm_celsius": 61}  # noqa: RUF012 - read only
    polls = 0

    def __init__(self, _version, commands, on_config, networks):
        assert commands["measure"]({}) == {"celsius": 61.3}
        assert (on_config({}), on_config({"interval_s": 0})) == (None, "interval_s: must be at least 1")
        assert networks

    def poll(self, _wait_ms):
        self.polls += 1
        if self.polls == 3:
            raise EOFError

    def log(self, message, level, tag):
        print(message, level, tag)

    def publish(self, name, message):
        print(name, message)


mdm.Device = Example
with open(sys.argv[1] + "/main.py") as file:
    source = file.read()
try:
    exec(source)  # noqa: S102 - as a board does with it
except EOFError:
    print("example")
