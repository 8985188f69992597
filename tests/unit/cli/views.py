"""Prints the other commands that show tables or facts with prepared answers, as `lists` prints the lists."""

from __future__ import annotations

import sys
from typing import Any, Final
from uuid import UUID

from shared.protocol import admin
from tests.unit.cli import fakes, lists
from tests.unit.cli.lists import DEVICES, DOCUMENT, LONG, ago, of

AUTHORITY: Final = {
    "subject": "CN=mdm authority 2026, O=Example",
    "fingerprint": fakes.SHA256,
    "ends_at": fakes.NOW,
}
CONNECTION: Final = {
    "progress": "refused",
    "wanted": "9d2ac6a1b04e77f0",
    "first": "7c50f1aa93d2e811",
    "fallback": "0be1a5d94cf07a32",
    "in_use": "7c50f1aa93d2e811",
    "refused_id": "9d2ac6a1b04e77f0",
    "refused_outcome": "broker_unreachable",
    "refused_reason": LONG,
    "refused_at": ago(30),
    "reported_at": ago(20),
    "sent_id": "9d2ac6a1b04e77f0",
    "sent_at": ago(40),
}
IN_USE: Final = {
    "health": "critical",
    "health_reasons": lists.ANSWERS["registry.device.list"].devices[1].health_reasons,
}
ACCOUNT: Final = "a-name-of-forty-characters-is-the-longes"
NONE: Final = admin.Named.of([])
REKEYED: Final = admin.SecretsRekeyed(reencrypted=20_000, unreadable=NONE)
ANSWERS: Final[dict[str, Any]] = {
    **lists.ANSWERS,
    "registry.device.show": fakes.details(
        **IN_USE,
        client_id=DEVICES[1],
        name="Gewächshaus hinten links, zweite Reihe",
        tags=["greenhouse", "second-floor", "left", "behind-the-tomatoes", "mains-powered"],
        config_error=LONG,
        connection=CONNECTION,
        up_since=ago(2000),
        reset_reason="poweron",
        rssi_dbm=-71,
        ip="192.168.1.23",
        chip="esp32c3",
        clashed_at=ago(5),
        flaws=of(admin.FlawView, {}, topic="up/vitals", field="t_celsius", rule=LONG, at=ago(3)),
    ),
    "registry.event.list": admin.Events(
        events=of(
            admin.EventView,
            {"noun": "firmware", "verb": "rolled_back", "data": {"version": "1.3.0-rc.1", "reason": LONG}},
            {
                "at": ago(60 * 30),
                "noun": "config",
                "verb": "applied",
                "data": {"version": 12, "outcome": "applied"},
            },
            {"at": ago(60 * 24 * 20), "noun": "device", "verb": "online", "data": {}},
            event_id=UUID(int=1),
            at=ago(3),
            client_id=DEVICES[0],
        )
    ),
    "firmware.vitals.show": lambda request: admin.DeviceVitals(
        client_id=DEVICES[0],
        vitals=of(
            admin.VitalView,
            {},
            {"name": "a_name_of_forty_characters_is_the_longest", "last": -999999999999999},
            {"name": "rssi_dbm", "last": -61, "low": -78, "mean": -65.4567, "high": -58},
            name="heap_free_bytes",
            last=142_336,
            at=ago(1),
            low=90_120,
            mean=131_072.25,
            high=150_000,
        ),
        points=[]
        if request.name is None
        else of(
            admin.VitalPoint,
            {"version": "1.3.0-rc.1+build.20250201"},
            {"at": ago(60)},
            at=ago(1),
            version="1.2.3",
            low=90_120,
            mean=131_072.25,
            high=150_000,
        ),
    ),
    "firmware.vitals.compare": admin.VitalsCompared(
        model="lamp",
        vitals=of(
            admin.VitalOfVersion,
            {},
            {"version": "1.3.0-rc.1+build.20250201", "devices": 12, "median": 64_000},
            {"name": "rssi_dbm", "p5": -80.5, "median": -66, "p95": -55, "mean": -67.123},
            name="heap_free_bytes",
            version="1.2.3",
            devices=2988,
            mean=131_072.25,
            p5=90_120,
            median=132_000,
            p95=150_000,
        ),
    ),
    "firmware.image.show": admin.ImageDetails.model_validate(
        {
            **dict(
                fakes.image(version="1.3.0-rc.1+build.20250201", signature=fakes.SHA256, signed_by=fakes.SHA256)
            ),
            "uploaded_by": "alice",
            "running": 2988,
            "delivering": 3,
            "rollout": 7,
        }
    ),
    "rotator.rotation.status": admin.RotationOverview(
        counts=admin.RotationCounts(ok=2000, queued=980, pending=8, timeout=12),
        asleep=200,
        offline=7,
        under_way=of(
            admin.RotationUnderWay,
            {},
            {"client_id": DEVICES[1], "slot": 1, "step": "SWITCHING", "cancelled": True},
            client_id=DEVICES[0],
            rotation_id=UUID(int=1),
            generation=3,
            step="OFFERED",
            slot=0,
            started_at=ago(0.5),
            left_s=270,
            cancelled=False,
        ),
    ),
    "rotator.schedule.show": admin.RotationScheduleView(
        expression="30 3 * * 0",
        zone="Europe/Berlin",
        author="alice",
        last_fire_at=ago(600),
        next=[ago(-500), ago(-10_580)],
    ),
    "rotator.rotation.start": admin.RotationQueued(
        queued=admin.Named.of([DEVICES[0]]),
        waiting=admin.Named.of([DEVICES[0]]),
        already=NONE,
        ending=admin.Named.of([DEVICES[1]]),
        skipped=NONE,
    ),
    "rotator.rotation.cancel": admin.RotationsCancelled(
        dequeued=admin.Named.of([DEVICES[0]]), not_retried=admin.Named.of([DEVICES[1]]), ending=NONE
    ),
    "registry.connection.show": admin.ConnectionView(
        connection_id="9d2ac6a1b04e77f0",
        trial_seconds=300,
        values=of(
            admin.ConnectionValue,
            {"field": "mqtt_host", "value": "a-broker-with-a-long-name.in-a-long-zone.example.org"},
            {"field": "ca_certificate", "value": "", "source": "tag greenhouse", "number": 2},
            {
                "field": "wifi",
                "value": ["workshop", "greenhouse behind the house"],
                "source": DEVICES[1],
                "number": 3,
            },
            source="settings",
            number=1,
        ),
        authorities=of(admin.AuthorityView, {}, {"subject": "CN=mdm authority 2031"}, **AUTHORITY),
        client_id=DEVICES[1],
        device=admin.DeviceConnectionView.model_validate(CONNECTION),
    ),
    "registry.connection.status": admin.ConnectionStatus(
        profiles=of(
            admin.ProfileUse,
            {},
            {
                "connection_id": "7c50f1aa93d2e811",
                "wifi": ["workshop", "greenhouse behind the house"],
                "refused": 3,
            },
            {"connection_id": "0be1a5d94cf07a32", "known": False, "in_use": 1},
            connection_id="9d2ac6a1b04e77f0",
            known=True,
            mqtt_host="mdm.example.org",
            mqtt_port=8883,
            authorities=[AUTHORITY["subject"]],
            wifi=[],
            in_use=2988,
            fallback=0,
            waiting=12,
            refused=0,
        ),
        more=2,
        authorities=of(
            admin.AuthorityUse,
            {},
            {"subject": "CN=mdm authority 2031", "alone": 0, "claims": []},
            **AUTHORITY,
            devices=2988,
            alone=12,
            claims=["claim-abcd1234", "claim-zzzz0000"],
        ),
        as_provisioned=4,
        without_package=1,
        on_fallback=2,
    ),
    "firmware.rollout.status": admin.RolloutStatus.model_validate(
        {
            **dict(lists.ANSWERS["firmware.rollout.list"].rollouts[1]),
            "reason": LONG,
            "doing": "halted: 3 of 10 devices of wave 1 have failed, and at most 5 percent may",
            "tags": ["greenhouse", "second-floor"],
            "plan": {},
            "counts": of(
                admin.RolloutWave,
                {"wave": 0, "devices": 20},
                {},
                {"wave": 2, "devices": 2970},
                wave=1,
                devices=10,
                counts=admin.RolloutCounts(confirmed=6, failed=2, rolled_back=1, taken=1),
            ),
            "failure_count": 40,
            "failures": of(
                admin.RolloutFailure,
                {},
                {"client_id": DEVICES[1], "reason": None, "state": "ROLLED_BACK"},
                client_id=DEVICES[0],
                wave=1,
                state="FAILED",
                reason=LONG,
                at=ago(7),
                forgiven=False,
            ),
        }
    ),
    "registry.command.show": admin.CommandBatch(
        batch_id=lists.ANSWERS["registry.command.list"].commands[0].batch_id,
        counts=admin.CommandCounts(ok=1, failed=1),
        commands=lists.ANSWERS["registry.command.list"].commands,
    ),
    "registry.config.get": admin.ConfigView(
        version=12,
        author="alice",
        created_at=ago(600),
        trial_seconds=None,
        outcome="applied",
        reported_at=ago(599),
        client_id=DEVICES[1],
        overrides={"led": {"on": True}},
        document=DOCUMENT,
        desired=12,
        reported=12,
        reported_outcome="applied",
    ),
    "registry.config.diff": admin.ConfigChanges(
        client_id=DEVICES[0],
        from_version=11,
        to_version=12,
        changes=of(
            admin.ConfigChange,
            {"path": ["led", "colour"], "before": "warm white", "after": "a white as cold as a winter's morning"},
            {"path": ["server"], "kind": "added", "after": "https://collector.example/a/long/path?of=an&address"},
            {"path": ["channels"], "kind": "removed", "before": [{"pin": 4, "name": "left"}, {"pin": 5}]},
            kind="changed",
            before=None,
            after=None,
        ),
    ),
    "registry.layer.show": lists.ANSWERS["registry.layer.list"].layers[1],
    "registry.model.list": admin.Models(
        models=[
            fakes.model().model_copy(
                update={
                    "name": LONG,
                    "config_defaults": DOCUMENT,
                    "config_schema": {"type": "object", "properties": {name: {} for name in DOCUMENT}},
                    "commands": ["blink", "measure", "calibrate", "factory_reset", "open_the_window", "water"],
                }
            )
        ]
    ),
    "registry.fleet.show": admin.FleetView(
        devices=3027,
        disabled=2,
        online=2900,
        asleep=20,
        drifting=3,
        without_key=1,
        health={"healthy": 2890, "critical": 100, "never_seen": 37},
        health_reasons={"offline": 90, "config_rejected": 10},
        rotation={"OK": 3000, "TIMEOUT": 27},
        versions=of(
            admin.RunningVersion,
            {},
            {"model": "greenhouse_sensor", "version": None},
            model="lamp",
            version="1.3.0-rc.1+build.20250201",
            devices=1500,
        ),
    ),
    "registry.doctor.run": admin.Diagnosis(
        devices=3027,
        findings=of(
            admin.Finding,
            {},
            {"subject": "certificate of the broker", "problem": "ends in 12 days", "repaired": True},
            subject=DEVICES[1],
            problem="the broker has no account for it",
            remedy="mdm doctor --repair",
            repaired=False,
        ),
    ),
    "firmware.doctor.run": admin.Diagnosis(devices=3027, findings=[]),
    "rotator.secrets.rekey": REKEYED,
    "firmware.secrets.rekey": REKEYED.model_copy(update={"unreadable": admin.Named.of([*DEVICES, "3", "4711"])}),
    "registry.secrets.rekey": REKEYED,
    "registry.notification.test": admin.NotificationQueued(id=UUID(int=7)),
    "registry.notification.history": admin.Notifications(
        notifications=[
            it.model_copy(update={"delivery": "failed"})
            for it in lists.ANSWERS["registry.notification.history"].notifications
        ]
    ),
    "registry.account.role": admin.AccountView(
        name=ACCOUNT,
        role=admin.Role.VIEWER,
        author="admin",
        created_at=ago(1),
        present=True,
    ),
}
VIEWS: Final = (
    ("device", "show", DEVICES[1]),
    ("device", "events", DEVICES[0]),
    ("device", "vitals", DEVICES[0]),
    ("device", "vitals", DEVICES[0], "heap_free_bytes"),
    ("model", "show", "lamp"),
    ("firmware", "show", "lamp", "1.3.0-rc.1+build.20250201"),
    ("firmware", "vitals", "lamp"),
    ("rollout", "status", "12"),
    ("rotate", DEVICES[1]),
    ("rotation", "start", DEVICES[1]),
    ("rotation", "status"),
    ("rotation", "cancel", DEVICES[1]),
    ("rotation", "schedule", "show"),
    ("command", "show", "01234567-89ab-cdef-0123-456789abcdef"),
    ("config", "get", DEVICES[1]),
    ("config", "diff", DEVICES[0]),
    ("config", "layer", "show", "second-floor"),
    ("connection", "show", DEVICES[1]),
    ("connection", "status"),
    ("admin", "role", ACCOUNT, "viewer"),
    ("notification", "test", "night"),
    ("fleet", "show"),
    ("doctor",),
    ("secrets", "rekey"),
)


if __name__ == "__main__":
    lists.print_all(sys.argv[1:], VIEWS, ANSWERS)
