"""The tables of the PostgreSQL schema `mdm`, as created by the Alembic history in shared/database/migrations.

Constraints within one table are in the migrations too: slots, open rotations, immutable names.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.database.ordered_json import OrderedJson

SCHEMA = "mdm"
VERIFY_AFTER: Final = timedelta(seconds=60)
"""Delay after a change of credentials until all places are compared: by then an abandoned call has arrived too."""
NOW = text("now()")


class Base(DeclarativeBase):
    """The base of all rows."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        },
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way
        str: Text(),
        bytes: LargeBinary(),
        bool: Boolean(),
        datetime: DateTime(timezone=True),
        UUID: PG_UUID(as_uuid=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text()),
    }


class InstanceRow(Base):
    """The identity of this installation, in one row: Keycloak and the broker are marked with the same id.

    The X25519 key pair is the server's half of recovery; its private key is ciphertext. The registry generates it,
    and the id, at its first start. Everything is compared with Keycloak and the broker at `compare_at`.
    """

    __tablename__ = "instance"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        CheckConstraint("(public_key IS NULL) = (private_key IS NULL)", name="key_pair"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, server_default=text("1"))
    uuid: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    public_key: Mapped[str | None]
    private_key: Mapped[bytes | None]
    compare_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Stray(Base):
    """An account or client without a row: disabled at `found_at`, deleted days later."""

    __tablename__ = "strays"

    name: Mapped[str] = mapped_column(primary_key=True)
    found_at: Mapped[datetime] = mapped_column(server_default=NOW)


class DeviceModel(Base):
    """A kind of device; its code never changes."""

    __tablename__ = "device_models"
    __table_args__ = (
        CheckConstraint("code ~ '^[a-z0-9_]{1,50}$'", name="code"),
        CheckConstraint("slot_size_bytes > 0", name="slot_size"),
        ForeignKeyConstraint(
            ["id", "image_sha256"],
            ["firmware_images.model_id", "firmware_images.sha256"],
            use_alter=True,
            name="device_models_image_sha256_fkey",
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    chip: Mapped[str]
    slot_size_bytes: Mapped[int] = mapped_column(BigInteger)
    config_schema: Mapped[dict[str, Any] | None] = mapped_column(OrderedJson())
    config_defaults: Mapped[dict[str, Any]] = mapped_column(OrderedJson())
    sealed: Mapped[list[Any] | None] = mapped_column(server_default=text("'[]'"))
    """The places of the schema that are `writeOnly`; None: a schema from before they were looked for."""
    commands: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    image_sha256: Mapped[str | None]
    secure_boot_keys: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    """Digests of keys; unless empty, only images that one of them has signed for Secure Boot are accepted."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class RotationSlot(Base):
    """One row for each device that may rotate at a time."""

    __tablename__ = "rotation_slots"
    __table_args__ = (CheckConstraint("slot >= 0", name="slot"),)

    slot: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)


class Device(Base):
    """A device; its client id is derived from model and key, never stored.

    `lifecycle` is CREATING until its identity is complete in Keycloak and in the broker, then ACTIVE.
    `last_generation` counts every secret ever offered to it, also those of rotations that failed.
    `secret_fingerprint` (shared.crypto.fingerprint) identifies its secret, None if not known.
    `public_key` is the X25519 key that only the device has, None for devices without one. Keycloak and the broker
    are compared with the row at `verify_at`.
    """

    __tablename__ = "devices"
    __table_args__ = (
        CheckConstraint("key ~ '^[a-z0-9]{8}$'", name="key"),
        CheckConstraint("lifecycle IN ('CREATING', 'ACTIVE', 'REMOVING')", name="lifecycle"),
        CheckConstraint("rotation_state IN ('OK', 'QUEUED', 'PENDING', 'TIMEOUT')", name="rotation_state"),
        CheckConstraint("(rotation_state = 'PENDING') = (rotation_slot IS NOT NULL)", name="slot_when_pending"),
        CheckConstraint(
            "(rotation_state = 'TIMEOUT') = (rotation_retry_at IS NOT NULL)", name="retry_after_timeout"
        ),
        CheckConstraint("1 <= secret_generation AND secret_generation <= last_generation", name="generation"),
        ForeignKeyConstraint(
            ["id", "config_version"],
            ["device_configs.device_id", "device_configs.version"],
            name="devices_config_version_fkey",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
        Index("devices_tags_idx", "tags", postgresql_using="gin"),
        Index(
            "devices_rotation_due_idx",
            "rotation_state",
            "secret_created_at",
            postgresql_where=text("rotation_state <> 'OK'"),
        ),
        Index("devices_verify_at_idx", "verify_at", postgresql_where=text("verify_at IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("device_models.id"), index=True)
    name: Mapped[str]
    tags: Mapped[list[str]]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    lifecycle: Mapped[str]
    request_id: Mapped[str] = mapped_column(unique=True)
    config_version: Mapped[int] = mapped_column(BigInteger)
    secret_generation: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    last_generation: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    secret_fingerprint: Mapped[str | None]
    secret_created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    public_key: Mapped[str | None]
    verify_at: Mapped[datetime | None]
    rotation_state: Mapped[str] = mapped_column(server_default=text("'OK'"))
    rotation_slot: Mapped[int | None] = mapped_column(ForeignKey("rotation_slots.slot"), unique=True)
    rotation_retry_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Presence(Base):
    """A device's last reported status; apart from `devices`, so that its many writes do not lock device rows.

    `last_seen_at` is when its last status was received, `left_at` when its last connection ended, `booted_at` when
    the first status of its present start was received, None if it does not report which that is. `refused_at` is
    when the broker last refused a login with its client id, `clashed_at` when two boards last used it. A device
    that sleeps has a `wake_interval_s`, and `asleep_until` from the end of its connection on until it is back or
    overdue: see shared/database/presences.py.

    `desired_version` is the device's `config_version`, copied by triggers: so `drifts` needs no other table, and
    has an index. It is whether a device that was seen has not reported its desired configuration as applied.
    """

    __tablename__ = "device_presence"
    __table_args__ = (
        CheckConstraint("wake_interval_s > 0", name="wake_interval"),
        CheckConstraint("asleep_until IS NULL OR NOT online", name="asleep"),
        Index("device_presence_online_idx", "device_id", postgresql_where=text("online")),
        Index(
            "device_presence_awake_idx",
            "device_id",
            postgresql_where=text("online AND wake_interval_s IS NOT NULL"),
        ),
        Index("device_presence_asleep_idx", "asleep_until", postgresql_where=text("asleep_until IS NOT NULL")),
        Index("device_presence_drifts_idx", "device_id", postgresql_where=text("drifts")),
    )

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    online: Mapped[bool] = mapped_column(server_default=text("false"))
    last_seen_at: Mapped[datetime | None]
    left_at: Mapped[datetime | None]
    booted_at: Mapped[datetime | None]
    wake_interval_s: Mapped[int | None] = mapped_column(Integer)
    asleep_until: Mapped[datetime | None]
    refused_at: Mapped[datetime | None]
    clashed_at: Mapped[datetime | None]
    status: Mapped[dict[str, Any] | None]
    firmware_version: Mapped[str | None]
    firmware_sha256: Mapped[str | None]
    secret_generation: Mapped[int | None] = mapped_column(BigInteger)
    config_version: Mapped[int | None] = mapped_column(BigInteger)
    config_outcome: Mapped[str | None]
    config_error: Mapped[str | None]
    desired_version: Mapped[int | None] = mapped_column(BigInteger)
    drifts: Mapped[bool] = mapped_column(
        Computed(
            "last_seen_at IS NOT NULL AND "
            "NOT coalesce(config_version = desired_version AND config_outcome = 'applied', false)",
            persisted=True,
        )
    )


class DeviceHealth(Base):
    """The health of a device that was last announced, since when, and the names of its reasons.

    services/registry/health.py decides it.
    """

    __tablename__ = "device_health"

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    health: Mapped[str]
    reasons: Mapped[list[str]]
    since: Mapped[datetime] = mapped_column(server_default=NOW)


class DeviceFlaw(Base):
    """A field that was left out of a device's last message on a topic, since `at`, and the rule that it breaks."""

    __tablename__ = "device_flaws"

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    topic: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=NOW)


class DeviceConfig(Base):
    """One version of a device's desired configuration: its overrides, and the merged document.

    `outcome` is what the device last reported about it, with `trial_seconds` due within that time.
    """

    __tablename__ = "device_configs"
    __table_args__ = (
        CheckConstraint("trial_seconds > 0", name="trial_seconds"),
        CheckConstraint("outcome IN ('applied', 'rejected', 'reverted')", name="outcome"),
        CheckConstraint("(outcome IS NULL) = (reported_at IS NULL)", name="reported"),
        Index("device_configs_by_device_idx", "device_id", postgresql_where=text("author LIKE 'iotdevice-%'")),
    )

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    overrides: Mapped[dict[str, Any]]
    document: Mapped[dict[str, Any]]
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    trial_seconds: Mapped[int | None] = mapped_column(Integer)
    outcome: Mapped[str | None]
    reported_at: Mapped[datetime | None]


class ConfigLayer(Base):
    """The part of a configuration that all devices with a tag have in common."""

    __tablename__ = "config_layers"

    tag: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    document: Mapped[dict[str, Any]]
    author: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ConnectionLayer(Base):
    """A partial connection profile: only the fields that are set for all devices, for a tag, or for one device.

    Rows are never changed: the newest of each scope is in force, unless it is `removed`. That of scope `settings`,
    below all others, has what the registry's settings say. `document` has the fields of
    `messages.ConnectionProfile`, but of each Wi-Fi network only its name and a random id; `wifi` is the ciphertext
    of the networks with their passwords. `trial_seconds` is None where it is left to the scopes below.
    """

    __tablename__ = "connection_layers"
    __table_args__ = (
        CheckConstraint("scope IN ('settings', 'all', 'tag', 'device')", name="scope"),
        CheckConstraint("(scope = 'tag') = (tag IS NOT NULL)", name="tag"),
        CheckConstraint("(scope = 'device') = (device_id IS NOT NULL)", name="device"),
        CheckConstraint("(document ? 'wifi') = (wifi IS NOT NULL)", name="wifi"),
        CheckConstraint("trial_seconds > 0", name="trial_seconds"),
    )

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    scope: Mapped[str]
    tag: Mapped[str | None]
    device_id: Mapped[int | None] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), index=True)
    priority: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    document: Mapped[dict[str, Any]]
    wifi: Mapped[bytes | None]
    trial_seconds: Mapped[int | None] = mapped_column(Integer)
    removed: Mapped[bool] = mapped_column(server_default=text("false"))
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ConnectionProfileRow(Base):
    """A connection profile that was once sent or packed for a device, without Wi-Fi passwords; never changed."""

    __tablename__ = "connection_profiles"
    __table_args__ = (CheckConstraint("id ~ '^[0-9a-f]{16}$'", name="id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class DeviceConnection(Base):
    """A device's connection profiles by its last report, or, before its first one, by its package.

    A device from before there were profiles has no row. `sent_id` was sent last, at `sent_at`, which is None if it
    may be sent at once; `refused_at` is when the last refusal was first reported.
    """

    __tablename__ = "device_connections"
    __table_args__ = (
        CheckConstraint("refused_outcome IN ('rejected', 'reverted')", name="refused_outcome"),
        CheckConstraint(
            "(refused_id IS NULL) = (refused_outcome IS NULL) AND (refused_id IS NULL) = (refused_at IS NULL)",
            name="refused",
        ),
    )

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    first: Mapped[str | None]
    fallback: Mapped[str | None]
    in_use: Mapped[str | None]
    refused_id: Mapped[str | None]
    refused_outcome: Mapped[str | None]
    refused_reason: Mapped[str | None]
    refused_at: Mapped[datetime | None]
    reported_at: Mapped[datetime | None]
    sent_id: Mapped[str | None]
    sent_at: Mapped[datetime | None]


class Claim(Base):
    """A permission for machines without an identity to request one; its id also names its broker account.

    `connection_id` is the connection profile of its package, None if it is from before there were profiles.
    """

    __tablename__ = "claims"
    __table_args__ = (
        CheckConstraint("id ~ '^claim-[a-z0-9]{8}$'", name="id"),
        CheckConstraint("uses > 0", name="uses"),
        CheckConstraint("expires_at > created_at", name="expires"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("device_models.id", ondelete="CASCADE"), index=True)
    tags: Mapped[list[str]]
    uses: Mapped[int] = mapped_column(Integer)
    needs_approval: Mapped[bool]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    request_id: Mapped[str] = mapped_column(unique=True)
    connection_id: Mapped[str | None] = mapped_column(ForeignKey("connection_profiles.id"))
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ClaimRequestRow(Base):
    """A machine that requested an identity, once over all claims; without a device it is deleted with its claim.

    A granted one has used up one use of the claim; `device_id` and `granted_at` follow when the device is created.
    """

    __tablename__ = "claim_requests"
    __table_args__ = (
        CheckConstraint("uid ~ '^([0-9a-f]{12}|[0-9a-f]{16})$'", name="uid"),
        CheckConstraint("state IN ('pending', 'granted', 'denied')", name="state"),
        CheckConstraint("state = 'granted' OR device_id IS NULL", name="device_when_granted"),
        CheckConstraint("(device_id IS NULL) = (granted_at IS NULL)", name="granted_at"),
    )

    uid: Mapped[str] = mapped_column(primary_key=True)
    claim_id: Mapped[str] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    public_key: Mapped[str]
    state: Mapped[str]
    device_id: Mapped[int | None] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), unique=True)
    granted_at: Mapped[datetime | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Rotation(Base):
    """One attempt to change a secret; both secrets are ciphertext, and erased once it has an outcome.

    Without an `old_secret` there is none to restore: the device's secret is not the one that Keycloak holds.
    """

    __tablename__ = "rotations"
    __table_args__ = (
        CheckConstraint(
            "step IN ('OFFERED', 'DELIVERED', 'STORED', 'SWITCHING', 'SWITCHED', 'RESTORING')", name="step"
        ),
        CheckConstraint("outcome IN ('DONE', 'TIMEOUT', 'WITHDRAWN')", name="outcome"),
        CheckConstraint(
            "(outcome IS NULL) = (new_secret IS NOT NULL) AND (outcome IS NULL OR old_secret IS NULL)",
            name="secrets_only_while_open",
        ),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended"),
        UniqueConstraint("device_id", "generation"),
        Index("rotations_open_key", "device_id", unique=True, postgresql_where=text("outcome IS NULL")),
        Index("rotations_ended_at_idx", "ended_at", postgresql_using="brin"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"))
    generation: Mapped[int] = mapped_column(BigInteger)
    old_generation: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[str]
    outcome: Mapped[str | None]
    new_secret: Mapped[bytes | None]
    old_secret: Mapped[bytes | None]
    refused_proofs: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    started_at: Mapped[datetime]
    deadline_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
    stored_at: Mapped[datetime | None]
    switched_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class RotationSchedule(Base):
    """The schedule in force, in one row; the next run is computed from `since`, or from the last run.

    Without an `author` it is the setting of the rotator, and follows it.
    """

    __tablename__ = "rotation_schedule"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
    ONLY: ClassVar = 1

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, server_default=text("1"))
    expression: Mapped[str]
    zone: Mapped[str]
    since: Mapped[datetime]
    last_fire_at: Mapped[datetime | None]
    author: Mapped[str | None]


class FirmwareImage(Base):
    """A stored image of a model; its bytes, which several models may share, are in the store under their SHA-256.

    `version` is its label; `embedded_version` is the one in the image, None until the facts of an image from
    before this column have been read. A device may say that it runs the image by any of `sha256`, `app_sha256`
    (the digest appended to it, if any) and `elf_sha256`. `secure_boot_keys` are the digests of the keys of its
    Secure Boot V2 signatures, and `signature` is the detached one that this product checks.
    """

    __tablename__ = "firmware_images"
    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint("octet_length(signature) = 64", name="signature"),
        UniqueConstraint("model_id", "version"),
    )

    model_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("device_models.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    embedded_version: Mapped[str | None]
    project: Mapped[str]
    chip: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    secure_version: Mapped[int] = mapped_column(BigInteger)
    min_chip_revision: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    max_chip_revision: Mapped[int | None] = mapped_column(Integer)
    secure_boot_signatures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    secure_boot_keys: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    idf_version: Mapped[str]
    app_sha256: Mapped[str | None]
    elf_sha256: Mapped[str | None]
    uploaded_by: Mapped[str]
    uploaded_at: Mapped[datetime] = mapped_column(server_default=NOW)
    pinned: Mapped[bool] = mapped_column(server_default=text("false"))
    signature: Mapped[bytes | None]


class FirmwareKey(Base):
    """A public Ed25519 key (raw) that a model trusts; a model with a key accepts only signed images."""

    __tablename__ = "firmware_keys"
    __table_args__ = (CheckConstraint("octet_length(public_key) = 32", name="public_key"),)

    model_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("device_models.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    public_key: Mapped[bytes]
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class FirmwareLeftover(Base):
    """Bytes in the store that belong to no image, or not yet; who works on them holds the row's lock."""

    __tablename__ = "firmware_leftovers"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=NOW)


class FirmwareUpload(Base):
    """An upload that is not finished."""

    __tablename__ = "firmware_uploads"
    __table_args__ = (UniqueConstraint("model_id", "sha256"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("device_models.id"))
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class FirmwareUploadChunk(Base):
    """A piece of an upload."""

    __tablename__ = "firmware_upload_chunks"

    upload_id: Mapped[UUID] = mapped_column(
        ForeignKey("firmware_uploads.id", ondelete="CASCADE"), primary_key=True
    )
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    data: Mapped[bytes]


class FirmwareDelivery(Base):
    """A device's progress with an image; the record of an image that failed outlives the image.

    `fallbacks` counts how often the device has confirmed the image and was then back on another one.
    """

    __tablename__ = "firmware_deliveries"
    __table_args__ = (
        CheckConstraint(
            "stage IN ('withheld', 'offered', 'downloading', 'verifying', 'rebooting', 'confirmed', 'failed', "
            "'rolled_back', 'fell_back')",
            name="stage",
        ),
    )

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    sha256: Mapped[str] = mapped_column(primary_key=True)
    stage: Mapped[str]
    percent: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None]
    fallbacks: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Rollout(Base):
    """Delivery of an image to a selection of a model's devices, in waves; `plan` is an admin.RolloutPlan.

    `wave` is the last opened one, of `waves`; `met_at` is when it met its threshold. A rollout that is no longer
    `in_force`, as its model has got another image since, does not decide any more which image its devices should
    have.
    """

    __tablename__ = "rollouts"
    __table_args__ = (
        CheckConstraint("state IN ('RUNNING', 'PAUSED', 'HALTED', 'ABORTED', 'COMPLETED')", name="state"),
        CheckConstraint("(state IN ('ABORTED', 'COMPLETED')) = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("state <> 'HALTED' OR reason IS NOT NULL", name="reason_when_halted"),
        CheckConstraint("sha256 IS NOT NULL OR ended_at IS NOT NULL", name="image_while_open"),
        CheckConstraint("in_force OR ended_at IS NOT NULL", name="in_force_while_open"),
        CheckConstraint("0 <= wave AND wave <= waves", name="wave"),
        CheckConstraint("percent BETWEEN 1 AND 100", name="percent"),
        ForeignKeyConstraint(
            ["model_id", "sha256"],
            ["firmware_images.model_id", "firmware_images.sha256"],
            name="rollouts_sha256_fkey",
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("device_models.id", ondelete="CASCADE"), index=True)
    sha256: Mapped[str | None] = mapped_column(index=True)
    version: Mapped[str]
    tags: Mapped[list[str]]
    percent: Mapped[int] = mapped_column(Integer)
    plan: Mapped[dict[str, Any]]
    waves: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]
    reason: Mapped[str | None]
    wave: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    met_at: Mapped[datetime | None]
    in_force: Mapped[bool] = mapped_column(server_default=text("true"))
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ended_at: Mapped[datetime | None]


class RolloutDevice(Base):
    """The state of a device in a rollout; devices in wave 0 had the image before it began.

    It is `live` in at most one rollout: an open one that has not skipped it. A failure that was `forgiven`,
    when its rollout was resumed, no longer counts.
    """

    __tablename__ = "rollout_devices"
    __table_args__ = (
        CheckConstraint(
            "state IN ('WAITING', 'OFFERED', 'TAKEN', 'CONFIRMED', 'FAILED', 'ROLLED_BACK', 'SILENT', 'SKIPPED')",
            name="state",
        ),
        CheckConstraint("wave >= 0", name="wave"),
        Index("rollout_devices_live_key", "device_id", unique=True, postgresql_where=text("live")),
        Index("rollout_devices_rollout_id_wave_state_idx", "rollout_id", "wave", "state"),
        Index("rollout_devices_rollout_id_offered_at_idx", "rollout_id", "offered_at"),
        Index(
            "rollout_devices_under_way_idx",
            "rollout_id",
            postgresql_where=text("state IN ('OFFERED', 'TAKEN')"),
        ),
    )

    rollout_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    device_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("devices.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        index=True,
    )
    wave: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]
    reason: Mapped[str | None]
    live: Mapped[bool]
    forgiven: Mapped[bool] = mapped_column(server_default=text("false"))
    offered_at: Mapped[datetime | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=NOW)


class CommandRow(Base):
    """A command to one device, valid until `expires_at`, and its answer, which may be late."""

    __tablename__ = "commands"
    __table_args__ = (
        CheckConstraint("(ok IS NULL) = (answered_at IS NULL)", name="answered"),
        UniqueConstraint("batch_id", "device_id"),
        Index("commands_device_id_created_at_idx", "device_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    batch_id: Mapped[UUID]
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"))
    name: Mapped[str]
    arguments: Mapped[dict[str, Any]]
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    ok: Mapped[bool | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]


class CoreDumpRow(Base):
    """A core dump of a device, by the SHA-256 of its plaintext; in progress until it is stored or refused.

    `data_key` encrypts its chunks, and is itself encrypted with a master key.
    """

    __tablename__ = "core_dumps"
    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint("size_bytes > 0", name="size_bytes"),
        CheckConstraint("stored_at IS NULL OR refused IS NULL", name="stored_or_refused"),
        UniqueConstraint("device_id", "sha256"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"))
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    elf_sha256: Mapped[str]
    reason: Mapped[str | None]
    firmware_version: Mapped[str | None]
    data_key: Mapped[bytes]
    begun_at: Mapped[datetime] = mapped_column(server_default=NOW)
    stored_at: Mapped[datetime | None]
    refused: Mapped[str | None]


class CoreDumpChunkRow(Base):
    """A chunk of a core dump, encrypted with the dump's own key."""

    __tablename__ = "core_dump_chunks"

    dump_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("core_dumps.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    data: Mapped[bytes]


class DeviceLogLine(Base):
    """A line of a device's log, in the order of storage; `time` and `uptime_ms` come from the device."""

    __tablename__ = "device_log"
    __table_args__ = (
        CheckConstraint("level IN ('debug', 'info', 'warning', 'error')", name="level"),
        UniqueConstraint("device_id", "boot", "number"),
        Index("device_log_device_id_id_idx", "device_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"))
    boot: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)
    level: Mapped[str]
    tag: Mapped[str | None]
    message: Mapped[str]
    time: Mapped[datetime | None]
    uptime_ms: Mapped[int | None] = mapped_column(BigInteger)


VITAL_FIELDS: Final = 6
"""The numbers of one vital in `VitalHour.numbers`."""


class VitalHour(Base):
    """What a device has measured of itself in the hour that begins at `hour`.

    `names` are separated by spaces, and `numbers` has six for each of them: how many there were, the lowest, their
    mean, the highest, the last, and when that was received, in seconds from `hour` on. `version` is the firmware
    that it ran, as far as is known.
    """

    __tablename__ = "device_vitals"
    __table_args__ = (Index("device_vitals_hour_idx", "hour", postgresql_using="brin"),)

    device_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    version: Mapped[str | None]
    names: Mapped[str]
    numbers: Mapped[list[float]] = mapped_column(ARRAY(REAL))


class NotificationRule(Base):
    """A rule by which messages are sent to people, see `admin.NotificationAdd`.

    `url` and `key`, with which a webhook's messages are signed, are ciphertext. The replica that delivers its
    messages, one after the other, has it until `busy_until`; the first that waits is due at `due_at`.
    """

    __tablename__ = "notification_rules"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    condition: Mapped[str]
    device_id: Mapped[int | None] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), index=True)
    tag: Mapped[str | None]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("device_models.id", ondelete="CASCADE"), index=True)
    hold_s: Mapped[int] = mapped_column(Integer)
    percent: Mapped[int] = mapped_column(Integer)
    older_than_s: Mapped[int] = mapped_column(Integer)
    url: Mapped[bytes]
    key: Mapped[bytes | None]
    target: Mapped[str]
    busy_until: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class NotificationSubject(Base):
    """What a rule's condition holds for, since `since`: the rule has notified of it if it `fired`.

    `over_since` is when the condition ceased to hold.
    """

    __tablename__ = "notification_subjects"

    rule_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("notification_rules.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    subject: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime]
    fired: Mapped[bool] = mapped_column(server_default=text("false"))
    over_since: Mapped[datetime | None]


class NotificationRow(Base):
    """A message of a rule, delivered in the order of `number`; without `ended_at` it waits.

    It has an `error` from the first failed attempt on, None if it was delivered.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        CheckConstraint("state IN ('firing', 'resolved', 'test')", name="state"),
        Index("notifications_waiting_idx", "rule_id", "number", postgresql_where=text("ended_at IS NULL")),
        Index("notifications_number_idx", "number"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    rule_id: Mapped[int] = mapped_column(ForeignKey("notification_rules.id", ondelete="CASCADE"))
    state: Mapped[str]
    message: Mapped[str]
    subjects: Mapped[list[Any]]
    count: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ended_at: Mapped[datetime | None]


class OutboxMessage(Base):
    """A message to publish once its transaction has committed, in the order of `id`; if `sealed`, ciphertext."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_service_id_idx", "service", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    service: Mapped[str]
    topic: Mapped[str]
    payload: Mapped[bytes]
    qos: Mapped[int] = mapped_column(Integer)
    retain: Mapped[bool]
    sealed: Mapped[bool] = mapped_column(server_default=text("false"))
    expires_at: Mapped[datetime | None]


class EventRow(Base):
    """An event that is kept for a while; `name` is `noun/verb`. Rows are only ever added, with the change itself.

    `client_id` may be the one of a device that is removed, or that never was.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("events_client_id_id_idx", "client_id", "id", postgresql_where=text("client_id IS NOT NULL")),
        Index("events_at_idx", "at", postgresql_using="brin"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[UUID]
    at: Mapped[datetime]
    name: Mapped[str]
    client_id: Mapped[str | None]
    data: Mapped[dict[str, Any]]


class AdminRequest(Base):
    """The recorded answer to an admin's request, for repetitions of the request."""

    __tablename__ = "admin_requests"

    account: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str]
    answer: Mapped[dict[str, Any]]
    answered_at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)


class AdminAccount(Base):
    """An account of an admin that the broker must have; its password is not stored."""

    __tablename__ = "admin_accounts"
    __table_args__ = (
        CheckConstraint("name ~ '^[a-z][a-z0-9_-]{1,39}$'", name="name"),
        CheckConstraint("role IN ('app', 'viewer', 'operator', 'admin')", name="role"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class AuditEntry(Base):
    """An entry of the audit log: who did what to what, and when; rows are only ever added."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
