from __future__ import annotations

from collections.abc import Iterator
from secrets import token_urlsafe
from uuid import uuid4

import pytest

from dev.servers.base import free_port
from tests.compose import engine
from tests.compose.deployment import Deployment

PORTS = ("MDM_DEVICES_PORT", "MDM_CLAIMS_PORT", "MDM_PAGES_PORT", "MDM_KEYCLOAK_PORT", "MDM_IMAGES_PORT")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Bring up two of each service and two simulated devices on a machine that has nothing; nothing is edited."""
    if not engine.is_there():
        pytest.skip("no Docker engine here has the images; `make standins` starts one that has stand-ins")
    ports = {name: str(free_port()) for name in PORTS}
    made = Deployment(
        f"mdm-test-{uuid4().hex[:8]}",
        {**ports, "COMPOSE_PROFILES": "demo,scale", "MDM_BACKUP_PASSPHRASE": token_urlsafe(24)},
    )
    try:
        made.up()
        yield made
    finally:
        made.down("--volumes")
