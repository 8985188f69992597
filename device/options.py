"""Options of a reference device, and hooks for its environment and tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from pydantic import JsonValue, SecretStr

from device import durable
from shared import crypto
from shared.protocol.messages import WifiNetwork

Protocol = Literal["3.1.1", "5"]
Auth = Literal["password", "token", "either"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The behaviour of a device; times in seconds."""

    protocol: Protocol = "3.1.1"
    mqtt_auth: Auth | None = None
    """The login: by the secret, by a token for it, or `either`, the token first; None: as in the profile.

    `either` is for the time in which a fleet moves to another broker.
    """
    keyless: bool = False
    """Behave like an old device: without a key of its own, so secrets are not sealed and it cannot recover."""
    chip: str = "esp32"
    """Version of the image that is built when the flash is empty and no image is given."""
    slot_size_bytes: int = 1536 * 1024
    retry_s: float = 5.0
    """Pause between two repetitions of an unanswered request."""
    claim_retry_s: float = 60.0
    """Pause between two requests for an identity that waits for an admin or was refused."""
    chunk_timeout_s: float = 5.0
    prefer_http: bool = False
    """Fetch an image from the URL in its offer, and in chunks over MQTT only when that fails."""
    http_attempts: int = 3
    """How many requests without a new byte before that."""
    sweep_s: float = 3600.0
    """Interval of requests for configuration and firmware on one connection, in case a push was lost."""
    wake_interval_s: int | None = None
    """With it the device sleeps, and this is the time from the end of a connection to the next one."""
    quiet_s: float = 2.0
    """How long it stays awake after the last message, when all is answered and nothing is in progress."""
    awake_max_s: float = 180.0
    """How long it stays awake without a message if something is in progress, or without a connection."""
    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0
    stable_s: float = 10.0
    """A connection that lasted this long is followed by another one without a pause."""
    keepalive_s: int = 30
    answer_timeout_s: float = 10.0
    """Timeout of the broker's acknowledgements."""
    disconnect_timeout_s: float = 3.0
    session_expiry_s: int = 7 * 24 * 3600
    verify_timeout_s: float = 120.0
    """Time for a new image to connect and get its configuration, before it is rolled back."""
    boots_max: int = 3
    """How often a new image may be interrupted before it is rolled back."""
    download_restarts: int = 2
    """How often an image with a wrong sha256 is fetched again."""
    reading_s: float | None = None
    """Interval of a reading on the device's own topics; None: it publishes none."""
    vitals_s: float | None = None
    """Interval of its vitals; None: it reports none."""
    panic_bytes: int = 0
    """Size of a core dump in flash at each start, as if the previous run had ended in a panic."""
    slow_s: float = 0.0
    """Delay of the handling of each message, and of those that follow."""
    fallback_after_s: float = 3600.0
    """Time without a connection after which the other connection profile has its turn."""
    silent_after_s: float = 24 * 3600.0
    """Time without an answer after which it has its turn although there is a connection."""
    fallback_starts: int = 6
    """Starts in a row without an answer after which it has its turn: none may last that long."""
    commands_kept: int = 32
    """The number of commands whose answers are stored, so that none is executed twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The outcome of a command: a result if there is one, an error if it failed.

    With `restart` the device restarts once the broker has the answer.
    """

    result: dict[str, JsonValue] | None = None
    error: str | None = None
    restart: bool = False


CommandHandler = Callable[[dict[str, JsonValue]], Done]
"""Executes a command with these arguments."""


def _join(_network: WifiNetwork) -> bool:
    """Join the network."""
    return True


def _ignore(_name: str, _facts: Mapping[str, object]) -> None:
    """Drop an event."""


def _accept_message(_topic: str) -> bool:
    """Accept a message."""
    return True


def _accept(_argument: object) -> str | None:
    """Accept the argument."""
    return None


def _measure_nothing() -> Mapping[str, float]:
    """Return no vitals."""
    return {}


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Callbacks, all synchronous; an exception of one ends the agent at once, as a power cut would.

    `on_event` gets each event and its facts, such as `rotation.stored`. `fault` is called at named points around
    each durable write and each publish. `check_config` gets a document and `self_test` the version of a new image;
    both return None, or a one-line error. `commands` are the commands of the device by name, besides `reboot` and
    `identify`. `accepts` gets a message's topic and returns whether the device accepts it; `proof` computes the
    proof of a new secret, as shared.crypto.proof does. `joins` gets a network of a connection profile and returns
    whether it is in range and has this password. `measure` returns vitals by name, besides `uptime_s`. `now` is
    the device's own clock, which may be wrong, and is used for the lines of its log only. `clock` counts seconds,
    from any time on.
    """

    on_event: Callable[[str, Mapping[str, object]], None] = _ignore
    fault: durable.Fault = durable.no_fault
    check_config: Callable[[dict[str, JsonValue]], str | None] = _accept
    self_test: Callable[[str], str | None] = _accept
    commands: Mapping[str, CommandHandler] = field(default_factory=dict)
    accepts: Callable[[str], bool] = _accept_message
    proof: Callable[[SecretStr, crypto.Purpose, UUID], str] = crypto.proof
    joins: Callable[[WifiNetwork], bool] = _join
    measure: Callable[[], Mapping[str, float]] = _measure_nothing
    now: Callable[[], datetime] = _utc_now
    clock: Callable[[], float] = time.monotonic
