"""The Prometheus metrics of the services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.errors import InvalidInputError, UnavailableError

REFRESH_S: Final = 5.0


class Counts(Collector):
    """A gauge of counts in the database, by one label; absent while unknown."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._counts: Mapping[str, int] = {}
        REGISTRY.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the latest counts, all from one query."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, count in self._counts.items():
            family.add_metric([value], count)
        yield family

    async def refresh(self, look: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        """Query every few seconds until cancelled; on an outage and afterwards, serve nothing."""
        try:
            while True:
                try:
                    self._counts = await look()
                except UnavailableError:
                    self._counts = {}
                await asyncio.sleep(REFRESH_S)
        finally:
            self._counts = {}


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
PRESENCES = Counts("mdm_device_presence_count", "Devices: online, asleep and not overdue, or offline.", "state")

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
