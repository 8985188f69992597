"""A board in a history.

The rules of the reference device write the histories, the same at each run. One begins with the first start of a
board. A step is what happens, and `then` what is seen of the device afterwards: all devices show the same.
"""

from __future__ import annotations

from typing import Any, Final

from shared.protocol.admin import Package
from tools.vectors import CLIENT_ID

Step = dict[str, Any]
LONGEST: Final = 14
SECRET: Final = "secret-of-generation-{}-of-rotation-{}"  # noqa: S105 - of an example
_URL: Final = "https://keycloak.example.org/token"


def package(port: int = 1, connection_id: str | None = None) -> Package:
    """Return a package with a profile that is known by its port."""
    return Package(
        client_id=CLIENT_ID,
        device_key="mw9agw5m",
        secret=SECRET.format(1, 0),
        secret_generation=1,
        token_url=_URL,
        mqtt_host="broker.example.org",
        mqtt_port=port,
        mqtt_tls=False,
        ca_certificate=None,
        connection_id=connection_id,
    )
