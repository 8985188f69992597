"""The package's rules of connection profiles decide as the reference device's do, whatever comes and when."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from device import connection as reference
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionProfile
from tests.micropython.board import SDK

Json = dict[str, Any]
TURN_MS, ANSWER_MS = 3_600_000, 10_000
IDS = [None, *("0" * 15 + digit for digit in "123")]
PORTS = [1, 2, 3]


def ours() -> ModuleType:
    """Load the module, with the parts that need MicroPython replaced by the few functions that it calls."""
    parts = {
        "mdm": SimpleNamespace(),
        "mdm.crypto": SimpleNamespace(sha256=lambda data: hashlib.sha256(data).digest()),
        "mdm.tls": SimpleNamespace(context=lambda certificate: certificate),
        "mdm.storage": SimpleNamespace(dumps=json.dumps),
    }
    parts["mdm"].crypto, parts["mdm"].tls = parts["mdm.crypto"], parts["mdm.tls"]
    spec = importlib.util.spec_from_file_location("profiles", SDK / "mdm/connection.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, parts):
        spec.loader.exec_module(loaded)
    return loaded


OURS = ours()


class Board:
    """What the profiles need of a device; its records outlive a start."""

    answer_ms, turn_ms, silent_ms = ANSWER_MS, TURN_MS, 24 * TURN_MS
    connected = False
    networks = None

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.now = 0
        self.package: Json = {}
        self.store = SimpleNamespace(
            read=lambda name: json.loads(self.records[name]) if name in self.records else None,
            write=lambda name, value: self.records.__setitem__(name, json.dumps(value)),
        )
        self.clock = SimpleNamespace(ms=lambda: self.now)
        self.config = SimpleNamespace(ask=lambda: None)

    def log(self, *_words: object) -> None: ...

    def end(self, _reason: object) -> None: ...

    def is_on_trial(self) -> bool:
        return False


class Both:
    """A device by each of the two implementations; all that happens happens to both."""

    def __init__(self) -> None:
        self.board = Board()
        self.profiles: Any = None
        self.slots: reference.ConnectionSlots | None = None

    def start(self, port: int, connection_id: str | None) -> None:
        fields = {"mqtt_host": "broker", "mqtt_port": port, "mqtt_tls": False, "connection_id": connection_id}
        fields |= {"mqtt_auth": "password", "token_url": "https://token", "ca_certificate": None}
        package = Package(
            client_id="x",
            device_key="x",
            secret="s",
            secret_generation=1,
            **fields,  # type: ignore[arg-type]
        )
        self.board.package = json.loads(package.model_dump_json())
        self.board.now += 1
        self.profiles = OURS.Profiles(self.board)
        mine = reference.of_package(package)
        if self.slots is None:
            self.slots = reference.begun(mine)
        else:
            self.slots = reference.started(self.slots, mine, starts_max=6)

    @contextmanager
    def running(self) -> Iterator[reference.ConnectionSlots]:
        if self.slots is None:
            self.start(1, None)
        assert self.slots is not None
        yield self.slots

    def answer(self) -> None:
        with self.running() as slots:
            self.profiles.on_answered()
            self.slots = reference.answered(slots)

    def offer(self, port: int, connection_id: str) -> None:
        with self.running() as slots:
            profile = {"mqtt_host": "broker", "mqtt_port": port, "mqtt_tls": False, "token_url": "https://token"}
            whole = ConnectionProfile.model_validate(profile | {"ca_certificate": None})
            sent = json.loads(whole.model_dump_json())
            self.profiles.on_offer({"connection_id": connection_id, "trial_seconds": 60, "profile": sent})
            if reference.judge(slots, connection_id, busy=False) is reference.OfferedProfile.TRY:
                self.slots = reference.tried(slots, reference.of_offer(connection_id, whole))

    def wait(self, ms: int) -> None:
        """Let the time for a trial, for a start without an answer, or for a turn pass without a connection."""
        with self.running() as slots:
            counts = self.profiles._count_at is not None and slots.trial is None and slots.fallback is not None
            self.board.now += ms
            self.profiles.on_tick()
            if slots.trial is not None:
                if ms >= 60_000:
                    self.slots = reference.reverted(slots, "no question was answered in time")
            elif slots.fallback is not None:
                counted = reference.counted(slots) if counts else slots
                self.slots = reference.turned(counted) if ms >= TURN_MS else counted

    def check(self) -> None:
        if self.slots is None:
            return
        slots, record = self.slots, self.profiles._record

        def plain(profile: reference.StoredProfile | None) -> tuple[str | None, int] | None:
            return None if profile is None else (profile.connection_id, profile.mqtt_port)

        def stored(name: str) -> tuple[str | None, int] | None:
            profile = self.profiles._read(name)
            return None if profile is None else (profile["connection_id"], profile["mqtt_port"])

        assert [stored(name) for name in ("first", "fallback", "trial")] == [
            plain(slots.first),
            plain(slots.fallback),
            plain(slots.trial),
        ]
        used = self.profiles.profile
        assert (used["connection_id"], used["mqtt_port"]) == plain(reference.in_use(slots))
        assert (record["works"], record["turn"], record["starts"]) == (slots.works, slots.turn, slots.starts)
        refused = slots.refused
        assert (record["refused"] and record["refused"]["outcome"]) == (refused and refused.outcome)


steps = st.one_of(
    st.tuples(st.just("start"), st.sampled_from(PORTS), st.sampled_from(IDS)),
    st.tuples(st.just("offer"), st.sampled_from(PORTS), st.sampled_from(IDS[1:])),
    st.tuples(st.just("answer")),
    st.tuples(st.just("wait"), st.sampled_from([ANSWER_MS, 60_000, TURN_MS])),
)


@given(st.lists(steps, max_size=25))
def test_each_history_leaves_both_with_the_same_profiles(history: list[tuple[Any, ...]]) -> None:
    both = Both()
    for name, *arguments in history:
        getattr(both, name)(*arguments)
        both.check()
