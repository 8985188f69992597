"""The figures that every service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Histogram, start_http_server

MESSAGES = Counter(
    "mdm_messages_total",
    "Messages taken from the broker, by what became of them (handled, refused, failed, crashed).",
    ["topic", "outcome"],
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


def serve(port: int) -> None:
    """Serve the metrics on this port of all interfaces; 0 serves none."""
    if port:
        start_http_server(port)
