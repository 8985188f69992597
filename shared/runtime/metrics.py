"""The Prometheus metrics of the services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.errors import InvalidInputError, UnavailableError
from shared.runtime.periodic import SCAN_PAUSE, periodic

REFRESH_S: Final = 5.0


Samples: TypeAlias = Mapping[str, float] | Mapping[tuple[str, ...], float]
"""Values of a gauge, by the value of its only label, or by those of all."""


class Counts(Collector):
    """A gauge of what is in the database, by labels; absent while unknown."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self.samples: Samples = {}
        REGISTRY.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the latest samples, all from one query."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self.samples.items():
            family.add_metric([values] if isinstance(values, str) else values, count)
        yield family

    async def refresh(self, look: Callable[[], Awaitable[Samples]]) -> None:
        """Query every few seconds until cancelled; on an outage and afterwards, serve nothing."""

        async def look_at_one() -> list[Samples]:
            return [await look()]

        await refresh([self], look_at_one)


async def refresh(gauges: Sequence[Counts], look: Callable[[], Awaitable[Sequence[Samples]]]) -> None:
    """Query the samples of gauges, as `Counts.refresh`."""

    def serve(found: Sequence[Samples]) -> None:
        for gauge, samples in zip(gauges, found, strict=True):
            gauge.samples = samples

    async def look_again() -> None:
        try:
            serve(await look())
        except UnavailableError:
            serve([{}] * len(gauges))
            raise

    try:
        await periodic(look_again, every_s=REFRESH_S, pause=SCAN_PAUSE, on_outage="metrics.absent")
    finally:
        serve([{}] * len(gauges))


MESSAGES = Counter(
    "mdm_messages_total",
    "Messages taken from the broker, by what became of them (handled, refused, failed, crashed, dropped).",
    ["topic", "outcome"],
)
FIRMWARE_REQUESTS = Counter(
    "iot_firmware_requests_total",
    "Requests for pieces of images, by what became of them (waits, repeated, displaced).",
    ["outcome"],
)
FIRMWARE_ANSWERS = Counter(
    "iot_firmware_answers_total",
    "Answers to requests for pieces of images (sent, refused, failed, crashed).",
    ["outcome"],
)
FIRMWARE_BYTES = Counter(
    "mdm_firmware_bytes_total", "Bytes of images sent to devices, by road (mqtt, http).", ["road"]
)
KEYCLOAK_OPERATIONS = Counter(
    "iot_keycloak_operations_total",
    "Requests to Keycloak, by operation and outcome.",
    ["operation", "status"],
)
ROTATION_DURATION = Histogram(
    "iot_rotation_duration_seconds",
    "From offer to end of a rotation, by outcome.",
    ["outcome"],
    buckets=(0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
)
ROTATION_STATES = Counts("iot_rotation_state_count", "Devices, by the state of their rotation.", "state")
ROLLOUT_STATES = Counts("iot_rollout_device_count", "Devices in open rollouts, by status.", "state")
DEVICES = Counts("iot_device_count", "Devices, by model.", "model_code")
PRESENCES = Counts(
    "mdm_device_presence_count",
    "Devices: online, asleep and not overdue, or offline, by model.",
    "model_code",
    "state",
)
HEALTH = Counts("mdm_device_health_count", "Devices, by model and health.", "model_code", "health")
HEALTH_REASONS = Counts(
    "mdm_device_health_reason_count", "Devices, by model and reason of their health.", "model_code", "reason"
)
FIRMWARE_VERSIONS = Counts(
    "mdm_device_firmware_count", "Devices, by model and the version that they run.", "model_code", "version"
)
OLDEST_SECRETS = Counts(
    "mdm_oldest_secret_timestamp_seconds",
    "When the oldest secret of a model's devices was made, in Unix time; without those that are disabled or new.",
    "model_code",
)
NOTIFICATIONS = Counter(
    "mdm_notifications_total", "Attempts to deliver a notification (delivered, refused, failed).", ["outcome"]
)

CERTIFICATE_ENDS = Gauge(
    "mdm_certificate_end_timestamp_seconds",
    "End of a certificate on which devices depend, in Unix time.",
    ["place"],
)


def serve(port: int) -> None:
    """Serve the metrics on this port of all interfaces; 0 serves none. Raise InvalidInputError if it is taken."""
    try:
        if port:
            start_http_server(port)
    except OSError as error:
        raise InvalidInputError(f"MDM_METRICS_PORT: cannot listen on {port}: {error.strerror}") from error
