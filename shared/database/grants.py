"""Rights of each service's database user, table by table; `python -m shared.database.migrate` applies them.

The owner of the tables, who migrates them, has all rights and needs no grants: an installation whose services all
log in as the owner continues to work. Rights are for tables, and for columns where a service needs only those.
Foreign keys cascade with the owner's rights, so a row that is deleted with its device needs no DELETE here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection, text

from shared.database import tables

Service: TypeAlias = Literal["registry", "rotator", "firmware"]

USERS: Final[Mapping[Service, str]] = {
    "registry": "mdm_registry",
    "rotator": "mdm_rotator",
    "firmware": "mdm_firmware",
}
BACKUP_USER: Final = "mdm_backup"
"""Acts as the owner: a backup reads everything, and a restore writes everything."""

_READ: Final = "SELECT"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
_KEEP: Final = "SELECT, INSERT, UPDATE"
_ONCE: Final = "SELECT, INSERT, DELETE"
# Append-only, and only the registry reads the log; the two columns are for RETURNING: the database fills them in.
_APPEND: Final = "INSERT, SELECT (id, at)"
# The same, where only the id is filled in.
_EMIT: Final = "INSERT, SELECT (id)"
# A lock on a row requires the right to update some column; this one nobody can change: GENERATED ALWAYS.
_LOCK: Final = "SELECT, UPDATE (id)"
# Rows that never change, as recorded answers, for repeated requests; the registry deletes old ones.
_ANSWERS: Final = "SELECT, INSERT"

GRANTS: Final[Mapping[type[tables.Base], Mapping[Service, str]]] = {
    tables.InstanceRow: {"registry": "SELECT, UPDATE"},
    tables.Stray: {"registry": _ALL},
    tables.DeviceModel: {"registry": _ALL, "rotator": _READ, "firmware": "SELECT, UPDATE (image_sha256)"},
    tables.Device: {
        "registry": _ALL,
        "rotator": "SELECT, UPDATE (secret_generation, last_generation, secret_fingerprint, secret_created_at, "
        "verify_at, rotation_state, rotation_slot, rotation_retry_at)",
        "firmware": _LOCK,
    },
    tables.Presence: {"registry": _KEEP, "rotator": _READ, "firmware": _READ},
    tables.DeviceHealth: {"registry": _KEEP, "firmware": _READ},
    tables.DeviceFlaw: {"registry": _ALL, "firmware": _ALL},
    tables.DeviceConfig: {"registry": _ALL},
    tables.ConfigLayer: {"registry": _ALL},
    tables.ConnectionLayer: {"registry": f"{_ANSWERS}, UPDATE (wifi)"},
    tables.ConnectionProfileRow: {"registry": _ANSWERS},
    tables.DeviceConnection: {"registry": _KEEP},
    tables.Claim: {"registry": _ALL},
    tables.ClaimRequestRow: {"registry": _ALL},
    tables.CommandRow: {"registry": _ALL},
    tables.AdminAccount: {"registry": _ALL},
    tables.Rotation: {
        "registry": "SELECT (device_id, outcome, step, ended_at)",
        "rotator": _ALL,
        # Which tokens are valid while a secret changes, and no more: the secrets' ciphertext is in this table.
        "firmware": "SELECT (device_id, outcome, generation, old_generation)",
    },
    tables.RotationSlot: {"rotator": _ONCE},
    tables.RotationSchedule: {"rotator": _ALL},
    tables.FirmwareImage: {
        "registry": "SELECT (model_id, sha256, app_sha256, elf_sha256, version)",
        "firmware": _ALL,
    },
    tables.FirmwareKey: {"firmware": _ONCE},
    tables.FirmwareLeftover: {"firmware": _ALL},
    tables.FirmwareUpload: {"firmware": _ALL},
    tables.FirmwareUploadChunk: {"firmware": _KEEP},
    tables.FirmwareDelivery: {
        "registry": "SELECT (device_id, sha256, stage, error, updated_at)",
        "firmware": _ALL,
    },
    tables.Rollout: {"registry": "SELECT (id, sha256, version, state, reason, in_force)", "firmware": _ALL},
    tables.RolloutDevice: {"registry": "SELECT (rollout_id, device_id, state)", "firmware": _ALL},
    tables.CoreDumpRow: {"registry": "SELECT (id, device_id, stored_at, reason)", "firmware": _ALL},
    tables.CoreDumpChunkRow: {"firmware": _ONCE},
    tables.DeviceLogLine: {"firmware": _ONCE},
    tables.VitalHour: {"registry": _READ, "firmware": _ALL},
    tables.NotificationRule: {"registry": _ALL},
    tables.NotificationSubject: {"registry": _ALL},
    tables.NotificationRow: {"registry": _ALL},
    tables.OutboxMessage: {"registry": _ONCE, "rotator": _ONCE, "firmware": _ONCE},
    tables.EventRow: {"registry": _ONCE, "rotator": _EMIT, "firmware": _EMIT},
    tables.AdminRequest: {"registry": f"{_ANSWERS}, DELETE", "rotator": _ANSWERS, "firmware": _ANSWERS},
    tables.AuditEntry: {"registry": _ANSWERS, "rotator": _APPEND, "firmware": _APPEND},
}
"""Rights by table and user; a user that is not listed has none."""


def apply(connection: Connection) -> None:
    """Grant the services' users these rights and no others; skip users that do not exist.

    Must be called by the owner of the tables, in a transaction.
    """
    for service, user in USERS.items():
        if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :user"), {"user": user}) is None:
            continue
        connection.execute(text(f"GRANT USAGE ON SCHEMA {tables.SCHEMA} TO {user}"))
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {tables.SCHEMA} FROM {user}"))
        for table, rights in GRANTS.items():
            if service in rights:
                on = f"{tables.SCHEMA}.{table.__tablename__}"
                connection.execute(text(f"GRANT {rights[service]} ON {on} TO {user}"))
