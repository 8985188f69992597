"""The core in C as a library: a device without I/O, whose records, time and broker are the test's."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import cffi  # type: ignore[import-untyped]

from tests.sdk.c_device import SOURCES, UNDEFINED, build

BUFFER_BYTES: Final = 8192


@cache
def library() -> tuple[Any, Any]:
    """Return the declarations of the core's headers, and the core, with UndefinedBehaviorSanitizer."""
    declared = subprocess.run(
        ["cc", "-E", "-P", "-nostdinc", "-Iinclude", "-Isrc", "-Itests/declared", "tests/declared/all.h"],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    ffi = cffi.FFI()
    ffi.cdef(
        declared + "size_t mdm_test_size(void); bool mdm_psa_begin(void); void mdm_psa_use(struct mdm_port *port);"
    )
    opened: Any = ffi.dlopen(str(build("libmdm.so", UNDEFINED, "undefined")))
    assert opened.mdm_psa_begin()
    return ffi, opened


@dataclass(frozen=True, slots=True)
class Action:
    """An action of the core, with copies of its texts."""

    kind: str
    name: str = ""
    topic: str = ""
    data: bytes = b""
    offset: int = 0
    dump_size: int = 0
    login: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the payload is
        """The payload, decoded."""
        return json.loads(self.data)


class Core:
    """A device: its actions are carried out at once on `records` and `flash`, and the others are returned."""

    def __init__(self, records: dict[str, bytes], **facts: object) -> None:
        """Start the device from its records; raise ValueError with the error's number if it does not."""
        self.ffi, self.lib = library()
        self.records = records
        self.flash = bytearray()
        self.selected = self.kept = False
        self.stored: list[str] = []
        self.error: str | None = None
        """Why a configuration cannot be applied."""
        self.refuse: set[str] = set()
        """Names of records that cannot be written."""
        self.trusts = True
        """Whether the authorities of a profile can be trusted."""
        self.now = 1_000
        self._kept = [self.ffi.new("char[]", value.encode()) for value in facts.values() if isinstance(value, str)]
        texts = iter(self._kept)
        given = {name: next(texts) if isinstance(value, str) else value for name, value in facts.items()}
        self.facts = self.ffi.new("struct mdm_facts *", given)
        self._load = self.ffi.callback("int32_t(void *, const char *, void *, size_t)", self._read)
        self._can_trust = self.ffi.callback("bool(*)(void *, const char *)", lambda _context, _pem: self.trusts)
        self.port = self.ffi.new("struct mdm_port *", {"load": self._load, "can_trust": self._can_trust})
        self.lib.mdm_psa_use(self.port)
        self.m = self.ffi.new("struct mdm *")
        self._buffer = self.ffi.new(f"char[{BUFFER_BYTES}]")
        error = self.lib.mdm_begin(self.m, self.port, self.facts, self._buffer, BUFFER_BYTES, self.now)
        if error:
            raise ValueError(error)

    def _read(self, _context: object, name: Any, data: Any, size: int) -> int:  # noqa: ANN401 - C's own
        record = self.records.get(self.ffi.string(name).decode(), b"")
        if len(record) > size:
            return -1
        self.ffi.memmove(data, record, len(record))
        return len(record)

    def _text(self, pointer: Any) -> str:  # noqa: ANN401
        return "" if pointer == self.ffi.NULL else self.ffi.string(pointer).decode()

    def _copy(self, action: Any) -> Action:  # noqa: ANN401
        names = {value: name for name, value in self.ffi.typeof("enum mdm_kind").relements.items()}
        data = b"" if action.data == self.ffi.NULL else bytes(self.ffi.buffer(action.data, action.size))
        login = {
            name: self._text(getattr(action.login, name))
            for name in (
                "host",
                "client_id",
                "username",
                "password",
                "ca_certificate",
                "will_topic",
                "will",
                "wifi",
            )
        }
        login |= {"port": action.login.port, "tls": action.login.tls, "clean": action.login.clean_session}
        login["token"] = action.login.use_token
        return Action(
            names[action.kind].removeprefix("MDM_"),
            self._text(action.name),
            self._text(action.topic),
            data if names[action.kind] not in {"MDM_ERASE", "MDM_VERIFY"} else action.size.to_bytes(4, "big"),
            action.offset,
            action.dump_size,
            login,
        )

    def next(self) -> Action | None:
        """Return the next action without carrying it out."""
        action = self.ffi.new("struct mdm_action *")
        return self._copy(action) if self.lib.mdm_next(self.m, action) else None

    def run(self, *, answer: bool = True) -> list[Action]:
        """Carry out all actions; with `answer` the broker acknowledges what is published, at once."""
        seen: list[Action] = []
        while (action := self.next()) is not None:
            assert len(seen) < 200, "the core does not come to rest"
            seen.append(action)
            self._carry_out(action, answer=answer)
        return seen

    def _carry_out(self, action: Action, *, answer: bool) -> None:
        match action.kind:
            case "STORE":
                ok = action.name not in self.refuse
                if ok:
                    self.records[action.name] = action.data
                    self.stored.append(action.name)
                self.lib.mdm_on_done(self.m, ok)
            case "ERASE":
                del self.flash[action.offset :]
                self.done()
            case "WRITE":
                assert action.offset == len(self.flash)
                self.flash += action.data
                self.done()
            case "BOOT" | "KEEP_IMAGE" | "ERASE_DUMP":
                self.selected |= action.kind == "BOOT"
                self.kept |= action.kind == "KEEP_IMAGE"
                self.done()
            case "APPLY":
                self.lib.mdm_on_configured(self.m, self.ffi.NULL if self.error is None else self.error.encode())
            case "PUBLISH" | "SUBSCRIBE" if answer:
                self.lib.mdm_on_acknowledged(self.m)
            case _:
                pass

    def done(self) -> None:
        """Say that the last action is done."""
        self.lib.mdm_on_done(self.m, True)  # noqa: FBT003 - C has no names of arguments

    def later(self, ms: int) -> list[Action]:
        """Let time pass, and carry out what is due."""
        self.now += ms
        self.lib.mdm_tick(self.m, self.now)
        return self.run()

    def message(self, topic: str, payload: object, *, run: bool = True, answer: bool = True) -> list[Action]:
        """Receive a message below down/, or with a whole topic; carry out what follows, see `run`."""
        client = self._text(self.m.client_id)
        whole = topic if topic.startswith("mdm/") else f"mdm/v1/d/{client}/down/{topic}"
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        taken = self.lib.mdm_on_message(self.m, whole.encode(), len(whole.encode()), data, len(data), 0, len(data))
        assert taken
        return self.run(answer=answer) if run else []

    def log_in(self, before: list[Action] | None = None) -> list[Action]:
        """Let the next login be accepted; return what is said at its beginning.

        `before` are the actions so far, among which it may have begun.
        """
        actions = before or []
        for _ in range(200):
            if any(action.kind == "CONNECT" for action in actions):
                return self.accept()
            actions = self.later(500)
        raise AssertionError("the core does not log in")

    def accept(self) -> list[Action]:
        """Accept the login that has been begun."""
        self.lib.mdm_on_connected(self.m)
        return self.run()

    @property
    def slots(self) -> Any:  # noqa: ANN401
        """The two slots."""
        return self.m.slots


def said(actions: list[Action], topic: str) -> list[Any]:
    """Return the payloads that are published below up/ on a topic."""
    return [it.json for it in actions if it.kind == "PUBLISH" and it.topic.endswith(f"/up/{topic}")]


def kinds(actions: list[Action]) -> list[str]:
    """Return the kinds of actions."""
    return [action.kind for action in actions]


def file(name: str) -> Path:
    """Return a file of vectors."""
    return SOURCES.parents[1] / "docs/vectors" / name
