"""What compose.yaml gives each container: few rights, not all of the machine, and a known image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pytest
import yaml

from deploy.homelab import files
from dev.servers import containers
from tests.compose.engine import ROOT

SERVICES: Final[Mapping[str, Mapping[str, Any]]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS: Final = "device-mdm:latest"
# They give files to others, or become the owner of a folder.
RIGHTS: Final = {
    "init": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
    "certificates": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
    "backup": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
    "mdm": {"SETUID", "SETGID"},
    "demo": {"SETUID", "SETGID"},
}
UNITS: Final = {"m": 1, "g": 1024}


def megabytes(service: str) -> int:
    """Return a service's memory limit."""
    limit = SERVICES[service]["mem_limit"]
    return int(limit[:-1]) * UNITS[limit[-1]]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_only_the_rights_that_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) == RIGHTS.get(name, set())
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "pid", "ipc", "devices"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_cannot_take_all_of_the_machine(name: str) -> None:
    assert megabytes(name) <= 1024
    assert SERVICES[name]["pids_limit"] <= 512


def test_all_that_runs_by_default_fits_into_the_smallest_machine() -> None:
    stay = {name for name, one in SERVICES.items() if "restart" in one and "profiles" not in one}
    assert {"postgres", "keycloak", "broker", "registry", "rotator", "firmware"} <= stay
    total = sum(map(megabytes, stay))
    assert total <= 3200
    assert f"add up to {total / 1024:g} GB" in (ROOT / "docs/homelab.md").read_text()


def test_keycloaks_heap_leaves_room_for_the_rest_of_it() -> None:
    heap = re.search(r"-Xmx(\d+)m", SERVICES["keycloak"]["environment"]["JAVA_OPTS_KC_HEAP"])
    assert heap is not None
    # As Keycloak's own documents have it: 750 MB for a heap of 512.
    assert megabytes("keycloak") >= int(heap[1]) * 1.5


def test_images_of_others_are_of_one_version_and_those_that_are_tested() -> None:
    images = {name: one["image"] for name, one in SERVICES.items() if one["image"] != OURS}
    assert set(containers.IMAGES) <= set(images.values())
    for name, image in images.items():
        parts = re.fullmatch(r"[a-z./-]+:v?(\d+(\.\d+)+)", image)
        assert parts is not None, image
        # PostgreSQL's versions have two numbers, all others three.
        assert parts[1].count(".") == (1 if name == "postgres" else 2), image
    # Older ones lose their accounts file in a crash; 2.1 has not been tried.
    major, minor, patch = map(int, images["broker"].rpartition(":")[2].split("."))
    assert ((major, minor), patch >= 21) == ((2, 0), True)


@pytest.mark.parametrize("image", containers.IMAGES[:2])
def test_the_stand_ins_have_the_names_of_the_images(image: str) -> None:
    assert f"build {image} " in (ROOT / "scripts/make-standins.sh").read_text()


def test_containers_run_as_the_users_who_own_their_files() -> None:
    for name, owner in (("postgres", files.POSTGRES), ("broker", files.MOSQUITTO)):
        assert SERVICES[name]["user"] == f"{owner.user}:{owner.group}"
