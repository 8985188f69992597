"""What each service's database user may do, table by table; `python -m shared.migrate` puts it in force.

The owner of the tables, who migrates them, may do everything, and needs no grants: an installation whose services
all log in as the owner goes on as it is. Rights are for tables, and for columns where a service needs only those.
Foreign keys cascade with the owner's rights, so a row that goes with its device needs no DELETE here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection, text

from shared import schema

Service: TypeAlias = Literal["registry", "rotator", "firmware"]

USERS: Final[Mapping[Service, str]] = {
    "registry": "mdm_registry",
    "rotator": "mdm_rotator",
    "firmware": "mdm_firmware",
}
BACKUP_USER: Final = "mdm_backup"
"""Acts as the owner: a backup reads everything, and a restore makes it again."""

_READ: Final = "SELECT"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
_KEEP: Final = "SELECT, INSERT, UPDATE"
_ONCE: Final = "SELECT, INSERT, DELETE"
# Only ever added, and the log is read by the registry alone; what the database has filled in comes back.
_NOTE: Final = "INSERT, SELECT (id, at)"
# A lock on a row takes the right to update some column; this one nobody can change: GENERATED ALWAYS.
_LOCK: Final = "SELECT, UPDATE (id)"
# What a service has answered, so that the same request gets it again; the registry forgets them.
_ANSWERS: Final = "SELECT, INSERT"

GRANTS: Final[Mapping[type[schema.Base], Mapping[Service, str]]] = {
    schema.Instance: {"registry": "SELECT, UPDATE"},
    schema.Stray: {"registry": _ALL},
    schema.DeviceModel: {"registry": _ALL, "rotator": _READ, "firmware": "SELECT, UPDATE (image_sha256)"},
    schema.Device: {
        "registry": _ALL,
        "rotator": "SELECT, UPDATE (secret_generation, last_generation, secret_fingerprint, secret_created_at, "
        "verify_at, rotation_state, rotation_slot, rotation_retry_at)",
        "firmware": _LOCK,
    },
    schema.Presence: {"registry": _KEEP, "rotator": _READ, "firmware": _READ},
    schema.DeviceConfig: {"registry": _KEEP},
    schema.ConfigLayer: {"registry": _ALL},
    schema.Claim: {"registry": _ALL},
    schema.ClaimRequest: {"registry": _ALL},
    schema.Command: {"registry": _ALL},
    schema.AdminAccount: {"registry": _ALL},
    schema.Rotation: {
        "registry": "SELECT (device_id, outcome, step)",
        "rotator": _KEEP,
        # Which tokens are good while a secret changes, and no more: the secrets' ciphertext is in this table.
        "firmware": "SELECT (device_id, outcome, generation, old_generation)",
    },
    schema.RotationSlot: {"rotator": _ONCE},
    schema.RotationSchedule: {"rotator": _ALL},
    schema.FirmwareImage: {"registry": "SELECT (model_id)", "firmware": _ALL},
    schema.FirmwareKey: {"firmware": _ONCE},
    schema.FirmwareLeftover: {"firmware": _ALL},
    schema.FirmwareUpload: {"firmware": _ALL},
    schema.FirmwareUploadChunk: {"firmware": _KEEP},
    schema.FirmwareDelivery: {"firmware": _ALL},
    schema.Rollout: {"firmware": _KEEP},
    schema.RolloutDevice: {"firmware": _KEEP},
    schema.CoreDump: {"firmware": _ALL},
    schema.CoreDumpChunk: {"firmware": _ONCE},
    schema.DeviceLogLine: {"firmware": _ONCE},
    schema.OutboxMessage: {"registry": _ONCE, "rotator": _ONCE, "firmware": _ONCE},
    schema.AdminRequest: {"registry": f"{_ANSWERS}, DELETE", "rotator": _ANSWERS, "firmware": _ANSWERS},
    schema.AuditEntry: {"registry": _ANSWERS, "rotator": _NOTE, "firmware": _NOTE},
}
"""Each table, and who may do what with it; who is not named may do nothing."""


def apply(connection: Connection) -> None:
    """Give the services' users these rights and no others; skip users that there are not.

    To be called by the owner of the tables, in a transaction.
    """
    for service, user in USERS.items():
        if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :user"), {"user": user}) is None:
            continue
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema.SCHEMA} TO {user}"))
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema.SCHEMA} FROM {user}"))
        for table, rights in GRANTS.items():
            if service in rights:
                on = f"{schema.SCHEMA}.{table.__tablename__}"
                connection.execute(text(f"GRANT {rights[service]} ON {on} TO {user}"))
