"""The core in C does in each history what the reference device's rules do: those of the vectors, and many more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from shared import crypto
from tests.sdk.core import Action, Core, file, said
from tests.sdk.devices import answered
from tests.sdk.packages import key_of
from tools.traces import profiles, secrets
from tools.traces.board import Step

MORE = range(1000, 1250)
WAITS_MS = {
    "trial over": (profiles.TRIAL_S + 1) * 1000,
    "offline": 3_600_100,
    "silent": 24 * 3_600_100,
    "count": 10_100,
}


def read(name: str) -> list[list[Step]]:
    return list(json.loads(file("traces.json").read_text())[name])


class Board:
    """A core whose records outlive a start, and what it has done in a step."""

    def __init__(self, step: Step) -> None:
        self.records: dict[str, bytes] = {}
        self.start(step)

    def start(self, step: Step) -> None:
        """Start it, perhaps with another package."""
        if "package" in step:
            self.records["package"] = json.dumps(step["package"]).encode()
        self.core = Core(self.records)
        self.actions = self.core.run()

    def log_in(self, refuses: int = 0) -> None:
        """Let it log in, unless it is online, after so many secrets were refused."""
        if self.core.lib.mdm_is_online(self.core.m):
            return
        while not any(it.kind == "CONNECT" for it in self.actions):
            self.actions += self.core.later(500)
        for _ in range(refuses):
            self.core.lib.mdm_on_refused(self.core.m)
            self.actions += self.core.run()
        self.actions += self.core.accept()


def moved(board: Board, step: Step, asked: list[Action]) -> None:
    """Let the event of a step happen to its connection profiles."""
    core, event = board.core, step["event"]
    match event:
        case "start":
            board.start(step)
        case "offer":
            board.actions = core.message("connection", step["message"])
        case "answer":
            board.actions = answered(core, asked, unchanged=True)
        case _:
            if event == "offline":
                core.lib.mdm_on_lost(core.m)
            if event == "silent":
                core.later(3_600_100)  # what was answered is asked again
            board.actions = core.later(WAITS_MS[event])
    board.log_in()


@pytest.mark.parametrize("history", [*read("profiles"), *map(profiles.history, MORE)])
def test_connection_profiles(history: list[Step]) -> None:
    board = Board(history[0])
    board.log_in()
    asked: list[Action] = []
    port = 0
    for number, step in enumerate(history):
        if number:
            moved(board, step, asked)
        ports = [it.login["port"] for it in board.actions if it.kind == "CONNECT"]
        port = ports[-1] if ports else port
        asked = board.actions if said(board.actions, "config/get") else asked
        state = said(asked, "config/get")[-1]["connection"]
        state.get("refused", {}).pop("reason", None)
        assert {"mqtt_port": port, "connection": state} == step["then"], (number, step)


def received(board: Board, step: Step) -> None:
    """Let it receive the message of a step."""
    message = dict(step["message"])
    if "sealed" in step:
        message["jwe"] = crypto.seal(SecretStr(step["sealed"]), crypto.public_half(key_of(board.core)))
    board.actions = board.core.message(step["event"], message)


@pytest.mark.parametrize("history", [*read("secrets"), *map(secrets.history, MORE)])
def test_secrets(history: list[Step]) -> None:
    board = Board(history[0])
    login = 0
    for number, step in enumerate(history):
        if step["event"] == "start":
            board.start({} if number else step)
        else:
            received(board, step)
        logs_in = any(it.kind == "DISCONNECT" for it in board.actions)
        board.log_in(len(step.get("refuses", [])))
        core, slots = board.core, [board.core.slots.first, board.core.slots.second]
        wills = [json.loads(it.login["will"]) for it in board.actions if it.kind == "CONNECT"]
        login = wills[-1]["secret_generation"] if wills else login
        for will, tried in zip(wills, [it for it in board.actions if it.kind == "CONNECT"], strict=True):
            assert tried.login["password"].startswith(f"secret-of-generation-{will['secret_generation']}-of-")
        if number and step["event"] == "start":
            assert [it["secret_generation"] for it in wills[:-1]] == step.get("refuses", [])
        due = {it.topic.partition("/up/")[2] for it in core.later(61_000) if "/up/rotation/" in it.topic}
        seen: dict[str, Any] = {
            "generations": [it.generation for it in slots if core.ffi.string(it.secret)],
            "login": login,
            "repeats": next(iter(due), None),
        }
        if step["event"] != "start":
            seen["logs_in"] = logs_in
        assert seen == step["then"], (number, step)
