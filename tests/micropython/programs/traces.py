"""Runs on MicroPython: the histories of docs/vectors/traces.json, or another such file, on the package's parts.

The arguments are the package and the file. It prints how many histories of each kind it has run.
"""

import json
import sys

sys.path[:0] = [sys.argv[1]]

from mdm import connection, slots
from mdm.clock import seconds

WAITS_MS = {"trial over": 61_000, "offline": 3_600_000, "silent": 24 * 3_600_000, "count": 10_000}


class Store:
    """Records in memory."""

    def __init__(self):
        self._records = {}

    def read(self, name):
        return json.loads(self._records[name]) if name in self._records else None

    def write(self, name, value):
        self._records[name] = json.dumps(value)


class Board:
    """What the parts need of a device, whose time is ours."""

    answer_ms, turn_ms, silent_ms, retry_ms = 10_000, 3_600_000, 24 * 3_600_000, 5_000
    networks = due = None
    connected = ended = False
    private = bytes(range(32))
    public = "of nobody"
    elapsed = 0
    time = None

    def __init__(self, store, package):
        self.store, self.package = store, package
        self.clock = self.config = self.key = self

    def ms(self):
        return self.elapsed

    def now(self):
        return self.time

    def is_on_trial(self):
        return False

    def ask(self):
        pass

    def log(self, *_words):
        pass

    def end(self, _reason):
        self.ended = True

    def repeat(self, _key, due, _ms, slowing=False):  # noqa: ARG002 - as a device has it
        self.due = due

    def stop_repeating(self, _key):
        self.due = None


def moves(history):
    """Play a history of connection profiles."""
    store = Store()
    for step in history:
        event = step["event"]
        if event == "start":
            package = step.get("package") or package  # noqa: F821 - the first step has one
            board = Board(store, package)
            profiles = connection.Profiles(board)
        elif event == "answer":
            profiles.on_answered()
        elif event == "offer":
            profiles.on_offer(step["message"])
        else:
            board.connected = event != "offline"
            board.elapsed += WAITS_MS[event]
            profiles.on_tick()
        board.connected = True
        profiles.on_tick()
        state = profiles.state()
        if "refused" in state:
            state["refused"] = {name: state["refused"][name] for name in ("connection_id", "outcome")}
        yield {"mqtt_port": profiles.profile["mqtt_port"], "connection": state}


def rotations(history):
    """Play a history of secrets."""
    store = Store()
    for step in history:
        event = step["event"]
        if event == "start":
            package = step.get("package") or package  # noqa: F821
            board = Board(store, package)
            credentials = slots.Credentials(board)
        elif event == "config":
            time = step["message"].get("time")
            if time and (board.time is None or seconds(time) > board.time):
                board.time = seconds(time)
            credentials.on_confirmed(step["message"]["secret_generation"])
        else:
            message = dict(step["message"])
            if "sealed" in step:
                message["jwe"] = step["sealed"]
            getattr(credentials, "on_" + event.split("/")[1])(message)
        logs_in = board.ended
        if event == "start" or logs_in:
            board.ended, refused = False, []
            for slot in credentials.login_order():
                if slot["generation"] not in step.get("refuses", []):
                    break
                refused.append(slot["generation"])
                credentials.on_refused()
            assert refused == step.get("refuses", [])
            credentials.on_login(slot)
        board.elapsed += 61_000
        board.time = board.time and board.time + 61
        first, second = store.read("slots")["first"], store.read("slots")["second"]
        repeated = board.due and board.due()
        seen = {
            "generations": [slot["generation"] for slot in (first, second) if slot],
            "login": credentials.login,
            "repeats": repeated and repeated[0],
        }
        yield seen if event == "start" else dict(seen, logs_in=logs_in)


# Sealing takes what a board never has: here the text itself is the sealed one.
slots.crypto.open_jwe = lambda jwe, _private: jwe

with open(sys.argv[2]) as file:
    histories = json.load(file)
for kind, play in (("profiles", moves), ("secrets", rotations)):
    for history in histories[kind]:
        for step, seen in zip(history, play(history)):  # noqa: B905 - MicroPython has no `strict`
            assert seen == step["then"], (kind, step, seen)
    print(kind, len(histories[kind]))
