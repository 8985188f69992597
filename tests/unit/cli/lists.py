"""Prints every list of the tool with prepared answers; the tests run it on terminals of several widths."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, Self
from uuid import UUID

from pydantic import BaseModel

from cli import client, main, output, tables
from shared.protocol import admin
from tests.unit.cli import fakes

DEVICES = ("iotdevice-lamp-abcd1234", "iotdevice-greenhouse_sensor-x7k2m9qa")
LONG = (
    "the image is signed by a key that its model does not trust, and the bootloader of the device would refuse it"
)
DOCUMENT = {"led": {"on": True, "colour": "warm white"}, "interval_s": 300, "server": "https://collector.example"}


class _Clock(type):
    def __instancecheck__(cls, it: object) -> bool:
        return isinstance(it, datetime)


class Now(datetime, metaclass=_Clock):
    """A clock that stands still, three minutes after all that has happened."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        del tz
        return cls.fromtimestamp((fakes.NOW + timedelta(minutes=3, seconds=5)).timestamp(), tz=fakes.NOW.tzinfo)


def ago(minutes: float) -> datetime:
    return fakes.NOW - timedelta(minutes=minutes)


def of(kind: type[BaseModel], /, *changes: Mapping[str, object], **facts: object) -> list[Any]:
    """Return one object with the facts for each change of them."""
    return [kind.model_validate({**facts, **change}) for change in changes]


TWO: Final = (
    {"client_id": DEVICES[0]},
    {"client_id": DEVICES[1], "name": "Gewächshaus hinten links, zweite Reihe"},
)
ANSWERS: Final[dict[str, Any]] = {
    "registry.device.list": admin.Devices(
        devices=[
            fakes.device(),
            fakes.device(
                **TWO[1],
                key="x7k2m9qa",
                online=False,
                presence="offline",
                health="critical",
                health_reasons=of(
                    admin.HealthReason,
                    {"reason": "offline", "level": "critical"},
                    {"reason": "config_rejected", "detail": LONG},
                    level="warning",
                    since=ago(60),
                ),
                last_seen_at=ago(60 * 24 * 5),
                config_outcome="rejected",
                config_version_reported=2,
                rotation_state="TIMEOUT",
            ),
            fakes.device(
                client_id="iotdevice-lamp-zzzz0000", name="", enabled=False, health="disabled", last_seen_at=None
            ),
        ]
    ),
    "registry.notification.list": admin.NotificationRules(
        rules=of(
            admin.NotificationRuleView,
            {"name": "night", "condition": "silent", "tag": "greenhouse", "firing": 1, "last_error": LONG},
            {"name": "share", "condition": "share_silent", "percent": 25},
            {"name": "ops", "condition": "rollout_halted"},
            target="https://hooks.example.org/...",
            hold_s=600,
            device=None,
            model=None,
            tag=None,
            percent=20,
            older_than_s=1,
            firing=0,
            waiting=2,
            last_error=None,
            author="admin",
            created_at=ago(60),
        )
    ),
    "registry.notification.history": admin.Notifications(
        notifications=of(
            admin.NotificationView,
            {"state": "firing", "text": f"{DEVICES[1]} is offline since 2025-02-01 12:34 UTC", "count": 1},
            id=UUID(int=7),
            rule="night",
            count=1,
            delivery="waiting",
            attempts=3,
            error="the receiver answered 500",
            created_at=ago(5),
            ended_at=None,
        )
    ),
    "registry.connection.history": admin.ConnectionLayerViews(
        layers=of(
            admin.ConnectionLayerView,
            {"number": 3, "scope": "device", "client_id": DEVICES[1], "document": {"mqtt_host": LONG}},
            {"number": 2, "scope": "tag", "tag": "greenhouse", "removed": True, "in_force": False},
            {"number": 1, "scope": "settings", "document": {"mqtt_host": "mdm.example.org", "mqtt_port": 8883}},
            tag=None,
            client_id=None,
            priority=0,
            document={},
            trial_seconds=None,
            removed=False,
            in_force=True,
            author="admin",
            created_at=ago(60),
        )
    ),
    "firmware.device.show": admin.DevicesFirmware(
        devices=of(
            admin.DeviceFirmware,
            {"client_id": DEVICES[0], "wanted": "1.2.3", "up_to_date": True},
            {"client_id": DEVICES[1], "stage": "downloading", "percent": 42},
            runs="1.2.3",
            wanted="1.3.0-rc.1",
            up_to_date=False,
            stage=None,
            percent=None,
            withheld=None,
        )
    ),
    "registry.model.list": admin.Models(models=[fakes.model(), fakes.model().model_copy(update={"name": LONG})]),
    "firmware.image.list": admin.Images(
        images=[fakes.image(), fakes.image(version="1.3.0-rc.1+build.20250201", current=False, pinned=True)]
    ),
    "firmware.key.list": admin.Keys(
        model="lamp",
        keys=of(admin.KeyView, {}, fingerprint=fakes.SHA256, public_key="", author="alice", created_at=fakes.NOW),
    ),
    "firmware.rollout.list": admin.Rollouts(
        rollouts=of(
            admin.RolloutView,
            {},
            {"rollout": 12, "state": "HALTED", "model": "greenhouse_sensor", "ended_at": fakes.NOW},
            rollout=7,
            model="lamp",
            version="1.2.3",
            tags=[],
            percent=100,
            state="RUNNING",
            reason=None,
            wave=1,
            waves=4,
            author="alice",
            created_at=ago(90),
            ended_at=None,
        )
    ),
    "firmware.rollout.preflight": fakes.findings(
        count=2,
        problems=[
            {**it, "name": "", "reason": LONG, "refuses": True} for it in ({"client_id": id_} for id_ in DEVICES)
        ],
    ),
    "rotator.rotation.history": admin.Rotations(
        client_id=DEVICES[0],
        rotations=of(
            admin.RotationEntry,
            {"generation": 3, "outcome": None, "ended_at": None, "duration_s": None, "step": "OFFERED"},
            {"generation": 2},
            rotation_id=UUID(int=2),
            step="SWITCHED",
            outcome="DONE",
            started_at=ago(61),
            delivered_at=ago(60),
            stored_at=ago(60),
            switched_at=ago(60),
            ended_at=ago(60),
            duration_s=1.25,
            refused_proofs=0,
        ),
    ),
    "registry.command.list": admin.Commands(
        commands=of(
            admin.CommandView,
            {},
            {"client_id": DEVICES[1], "outcome": "failed", "error": LONG, "arguments": {}, "name": "reboot"},
            command_id=UUID(int=1),
            batch_id=UUID("01234567-89ab-cdef-0123-456789abcdef"),
            client_id=DEVICES[0],
            name="blink",
            arguments={"times": 3, "colour": "warm white"},
            author="alice",
            created_at=ago(2),
            expires_at=fakes.NOW,
            outcome="ok",
            answered_at=fakes.NOW,
            result={"blinked": 3},
            error=None,
        )
    ),
    "registry.config.history": admin.ConfigVersions(
        client_id=DEVICES[0],
        desired=12,
        versions=of(
            admin.ConfigEntry,
            {},
            {"version": 11, "outcome": "reverted", "trial_seconds": 60},
            version=12,
            author="alice",
            created_at=ago(600),
            trial_seconds=None,
            outcome="applied",
            reported_at=ago(599),
        ),
    ),
    "registry.layer.list": admin.Layers(
        layers=of(
            admin.LayerView,
            {},
            {"tag": "second-floor", "priority": 10, "document": DOCUMENT},
            tag="attic",
            priority=0,
            document={"on": True},
            author="alice",
            updated_at=ago(60 * 24 * 100),
        )
    ),
    "registry.claim.list": admin.ClaimViews(
        claims=of(
            admin.ClaimView,
            {},
            {"claim": "claim-zzzz0000", "state": "expired", "model": "greenhouse_sensor", "expires_at": ago(60)},
            claim="claim-abcd1234",
            model="lamp",
            tags=["attic", "left"],
            uses=200,
            used=12,
            waiting=1,
            needs_approval=True,
            state="live",
            expires_at=fakes.NOW + timedelta(days=3),
            author="alice",
            created_at=fakes.NOW,
        )
    ),
    "registry.claim.requests": admin.ClaimRequestViews(
        requests=of(
            admin.ClaimRequestView,
            {},
            {"uid": "a0b765010204", "state": "granted", "client_id": DEVICES[1], "granted_at": fakes.NOW},
            uid="a0b765010203",
            claim="claim-abcd1234",
            model="lamp",
            state="pending",
            client_id=None,
            requested_at=ago(7),
            granted_at=None,
        )
    ),
    "registry.account.list": admin.Accounts(
        accounts=of(
            admin.AccountView,
            {},
            {"name": "a-name-of-forty-characters-is-the-longest", "role": "viewer", "present": False},
            name="alice",
            role="admin",
            author="admin",
            created_at=ago(60 * 24 * 400),
            present=True,
        )
    ),
    "registry.audit.list": admin.Audit(
        entries=of(
            admin.AuditView,
            {},
            {"action": "command.send", "subject": DEVICES[1], "before": None, "after": DOCUMENT},
            at=ago(3),
            actor="alice",
            action="device.update",
            subject=DEVICES[0],
            before={"tags": []},
            after={"tags": ["attic"]},
        )
    ),
    "firmware.coredump.list": admin.CoreDumps(
        dumps=of(
            admin.CoreDumpView,
            {},
            {"id": 4711, "client_id": DEVICES[1], "image_model": None, "image_version": None},
            id=3,
            client_id=DEVICES[0],
            sha256=fakes.SHA256,
            size_bytes=70_000,
            elf_sha256=fakes.SHA256,
            reason="LoadProhibited in task `sensors`",
            firmware_version="1.2.3",
            image_model="lamp",
            image_version="1.2.3",
            image_sha256=fakes.SHA256,
            stored_at=ago(45),
        )
    ),
}
LISTS: Final = (
    ("device", "list"),
    ("model", "list"),
    ("firmware", "list"),
    ("firmware", "key", "list", "lamp"),
    ("rollout", "list"),
    ("rollout", "preflight", "lamp", "1.2.3"),
    ("rollout", "history", "7"),
    ("rotation", "history", DEVICES[0]),
    ("command", "list"),
    ("config", "history", DEVICES[0]),
    ("config", "layer", "list"),
    ("connection", "history"),
    ("claim", "list"),
    ("claim", "requests"),
    ("admin", "list"),
    ("audit",),
    ("coredump", "list"),
    ("notification", "list"),
    ("notification", "history"),
)


def print_all(options: list[str], commands: Iterable[Sequence[str]], answers: Mapping[str, object]) -> None:
    """Print what each command shows, below the command."""
    for module, name in ((client, "Admin"), (tables, "datetime")):
        getattr(module, name)  # A deferred module is loaded by reading from it.
    vars(client)["Admin"] = fakes.FakeAdmin(dict(answers), [])
    vars(tables)["datetime"] = Now
    for words in commands:
        output.print_line(f"$ mdm {' '.join([*words, *options])}")
        try:
            main.app([*words, *options], prog_name="mdm")
        except SystemExit:
            output.print_line("")


if __name__ == "__main__":
    print_all(sys.argv[1:], LISTS, ANSWERS)
