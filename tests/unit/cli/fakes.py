"""An Admin without a broker, with prepared answers."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from cli.profile import Profile
from shared.protocol import admin
from shared.protocol.messages import Event

NOW = datetime(2025, 2, 1, 12, 34, 56, tzinfo=UTC)
SHA256 = "ab" * 32


class FakeAdmin:
    """Records each request; `answers` maps an operation's name to a result, an error or a function."""

    def __init__(self, answers: dict[str, Any], events: list[tuple[str, str, Event]]) -> None:
        self.answers = answers
        self.prepared = events
        self.requests: list[tuple[str, admin.Request]] = []
        self.timeouts: set[float] = set()
        self.profile: Profile | None = None

    def __call__(self, profile: Profile, *, timeout_s: float) -> Self:
        self.profile = profile
        self.timeouts.add(timeout_s)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def call(self, operation: admin.Operation[Any, Any], request: admin.Request, *, timeout_s: float) -> Any:  # noqa: ANN401 - the prepared answer
        if operation is admin.DEVICE_FIND and operation.name not in self.answers:
            # Each text is the client id of a device.
            return admin.DevicesFound(devices=[admin.DeviceMatch(client_id=request.text, name="")])  # type: ignore[attr-defined]
        self.requests.append((operation.name, request))
        self.timeouts.add(timeout_s)
        answer = self.answers[operation.name]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if isinstance(answer, Callable) else answer  # type: ignore[arg-type]

    def sent(self, prefix: str) -> list[admin.Request]:
        """Return the requests of the operations whose names begin so."""
        return [request for name, request in self.requests if name.startswith(prefix)]

    async def events(self, noun: str | None) -> AsyncIterator[tuple[str, str, Event]]:
        for found, verb, event in self.prepared:
            if noun in (None, found):
                yield found, verb, event


def device(**facts: object) -> admin.DeviceView:
    """Return a device with default facts, replaced by those given."""
    usual: dict[str, object] = {
        "client_id": "iotdevice-lamp-abcd1234",
        "key": "abcd1234",
        "model": "lamp",
        "name": "Küche [red]",
        "tags": ["attic", "left"],
        "enabled": True,
        "online": True,
        "presence": "online",
        "wake_interval_s": None,
        "asleep_until": None,
        "health": "healthy",
        "last_seen_at": NOW,
        "firmware_version": None,
        "config_version": 3,
        "config_version_reported": 3,
        "config_outcome": "applied",
        "config_error": None,
        "secret_generation": 1,
        "secret_created_at": NOW,
        "has_key": True,
        "rotation_state": "OK",
    }
    return admin.DeviceView.model_validate({**usual, **facts})


def details(**facts: object) -> admin.DeviceDetails:
    """Return what is known of a device with default facts, replaced by those given."""
    return admin.DeviceDetails.model_validate({**dict(device()), **facts})


def model() -> admin.ModelView:
    """Return a device model."""
    return admin.ModelView(
        code="lamp",
        name="Lamp",
        chip="esp32c3",
        slot_size_bytes=1536 * 1024,
        secure_boot_keys=[],
        config_schema=None,
        config_defaults={"on": True},
        sealed=[],
        commands=["blink"],
        devices=2,
    )


def image(**facts: object) -> admin.ImageView:
    """Return an image with default facts, replaced by those given."""
    usual: dict[str, object] = {
        "sha256": SHA256,
        "model": "lamp",
        "version": "1.2.3",
        "embedded_version": "1.2.3",
        "project": "lamp-app",
        "chip": "esp32c3",
        "size_bytes": 300_000,
        "idf_version": "v5.5.1",
        "secure_version": 0,
        "min_chip_revision": 0,
        "max_chip_revision": None,
        "secure_boot_signatures": 0,
        "secure_boot_keys": [],
        "app_sha256": SHA256,
        "elf_sha256": SHA256,
        "uploaded_at": NOW,
        "current": True,
        "pinned": False,
        "signature": None,
        "signed_by": None,
    }
    return admin.ImageView.model_validate({**usual, **facts})


def findings(**facts: object) -> admin.RolloutFindings:
    """Return the result of a preflight that all devices pass, with the facts given."""
    usual: dict[str, object] = {
        "model": "lamp",
        "version": "1.2.3",
        "sha256": SHA256,
        "fit": 1,
        "already": admin.Named.of([]),
        "count": 0,
        "refusing": 0,
        "problems": [],
        "waves": [1],
    }
    return admin.RolloutFindings.model_validate({**usual, **facts})


def package() -> admin.Package:
    """Return a provisioning package."""
    return admin.Package(
        client_id="iotdevice-lamp-abcd1234",
        device_key="abcd1234",
        secret="s" * 43,
        secret_generation=1,
        token_url="https://keycloak.test/token",
        mqtt_host="broker.test",
        mqtt_port=8883,
        mqtt_tls=True,
        ca_certificate=None,
    )


def event(number: int, **data: object) -> Event:
    """Return an event about a device."""
    return Event(event_id=UUID(int=number), at=NOW, client_id="iotdevice-lamp-abcd1234", data=data)
