"""Settings of the services, from `MDM_...` environment variables; a wrong one ends the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self, TypeVar
from zoneinfo import available_timezones

from croniter import CroniterError, croniter
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared import crypto
from shared.errors import InvalidInputError

_CRON_FIELDS: Final = 5


class Settings(BaseSettings):
    """What every service needs to know of its neighbours."""

    model_config = SettingsConfigDict(env_prefix="MDM_", extra="ignore", frozen=True)

    instance: str = Field("default", pattern=r"^[a-z0-9-]{1,50}$", description="marks what is ours in Keycloak")
    log_format: str = Field("json", pattern=r"^(json|console)$")
    log_level: str = Field("info", pattern=r"^(debug|info|warning|error)$")
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus metrics; 0 serves none")

    database_url: SecretStr = Field(description="postgresql+asyncpg://user:password@host/database")
    mqtt_host: str = "127.0.0.1"
    mqtt_port: int = Field(1883, ge=1, le=65535)
    mqtt_password: SecretStr = Field(description="password of the service's own broker account")


class IdentitySettings(Settings):
    """What a service needs that changes identities in Keycloak and accounts in the broker."""

    accounts_password: SecretStr = Field(description="password of the broker account svc-accounts")
    keycloak_url: str
    keycloak_realm: str = "iot"
    keycloak_client_id: str
    keycloak_client_secret: SecretStr


class KeySettings(Settings):
    """What a service needs that encrypts what it keeps."""

    master_keys_file: Path | None = Field(
        None, description="a file with the master keys, one on a line or comma separated, instead of master_keys"
    )
    master_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validate_default=True,
        description="Fernet keys, comma separated; the first encrypts, all decrypt",
    )

    @field_validator("master_keys", mode="before")
    @classmethod
    def _given_or_from_the_file(cls, given: object, info: ValidationInfo) -> object:
        file: Path | None = info.data.get("master_keys_file")
        if bool(given) == (file is not None):
            raise ValueError("exactly one of MDM_MASTER_KEYS and MDM_MASTER_KEYS_FILE must be given")
        source = "MDM_MASTER_KEYS" if file is None else "MDM_MASTER_KEYS_FILE"
        try:
            keys = str(given).split(",") if file is None else file.read_text().replace(",", " ").split()
            crypto.Vault([SecretStr(key) for key in keys])
        except OSError as error:
            raise ValueError(f"{source} can not be read: {error.strerror}") from None
        except ValueError:
            raise ValueError(
                f"{source}: each key must be 32 bytes in base64url, as Fernet.generate_key() makes it"
            ) from None
        return keys


class RegistrySettings(IdentitySettings):
    """Settings of the registry; the device_* ones go into provisioning packages."""

    device_mqtt_host: str = "127.0.0.1"
    device_mqtt_port: int = Field(8883, ge=1, le=65535)
    device_mqtt_tls: bool = True
    device_ca_file: Path | None = None
    claim_mqtt_port: int = Field(8884, ge=1, le=65535, description="where machines without an identity connect")
    claim_window_s: float = Field(
        24 * 3600, gt=0, description="how long a claimed identity is given to the same machine again"
    )
    reconcile_s: float = Field(300, gt=0, description="between two comparisons of database, Keycloak and broker")
    health_warning_s: float = Field(24 * 3600, gt=0, description="offline and without a word for longer: warning")
    health_critical_s: float = Field(7 * 24 * 3600, gt=0, description="... for longer: critical")
    health_inactive_s: float = Field(30 * 24 * 3600, gt=0, description="... for longer, or never seen: inactive")


class RotatorSettings(IdentitySettings, KeySettings):
    """Settings of the rotator; times in seconds."""

    rotation_deadline_s: float = Field(300, gt=0)
    rotation_retry_s: float = Field(3600, ge=0, description="delay before a timed out device is tried again")
    rotation_schedule: str = Field("0 8 * * 6#1", description="cron expression of five fields; empty: none")
    rotation_time_zone: str = Field("UTC", description="IANA name of the zone that the schedule is in")
    rotation_grace_s: float = Field(
        24 * 3600, ge=60, description="how late a fire still counts; a leader is never quite on time"
    )
    rotation_max_parallel: int = Field(1, ge=1, description="how many devices rotate at a time")
    sweep_s: float = Field(1, gt=0, description="how often the leader looks without being rung for")
    leader_poll_s: float = Field(0.5, gt=0)
    leader_lease_s: float = Field(2, gt=0, description="a leader silent for longer loses the lock")

    @model_validator(mode="after")
    def _polls_within_the_lease(self) -> Self:
        if self.leader_poll_s >= self.leader_lease_s:
            raise ValueError("MDM_LEADER_POLL_S: must be less than MDM_LEADER_LEASE_S")
        return self

    @field_validator("rotation_schedule")
    @classmethod
    def _cron(cls, expression: str) -> str:
        fields = expression.split()
        if not fields:
            return ""
        # A field of croniter's that begins with R or H means another time for each process.
        if len(fields) != _CRON_FIELDS or any(field[0] in "RrHh" for field in fields):
            raise ValueError("must be five fields of cron (minute, hour, day, month, weekday), or empty for none")
        try:
            croniter(expression, start_time=0).get_next()
        except CroniterError as error:
            raise ValueError(f"must be an expression of cron that has a next time: {error}") from None
        return " ".join(fields)

    @field_validator("rotation_time_zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError("must be the IANA name of a time zone, such as Europe/Berlin")
        return name


class FirmwareSettings(KeySettings):
    """Settings of the firmware service."""

    assets_url: str = Field(description="where images are kept, as file:///path or s3://bucket/path")
    assets_dir: Path | None = Field(None, description="where each model's image lies as firmware-{code}.bin")
    firmware_keep: int = Field(5, ge=0, description="so many newest images of a model are kept; 0 keeps all")
    firmware_house_s: float = Field(60, gt=0, description="how often images are looked after without a change")
    chunk_size_bytes: int = Field(16 * 1024, ge=256, le=64 * 1024)
    window: int = Field(4, ge=1, le=64, description="pieces that a device may have under way")
    firmware_inflight: int = Field(32, ge=1, le=1000, description="pieces that the service has under way")
    firmware_bytes_per_s: int = Field(0, ge=0, description="for all devices together; 0 sets no limit")
    http_host: str = Field("127.0.0.1", description="address to serve images on over HTTP")
    http_port: int = Field(0, ge=0, le=65535, description="its port; 0 serves none")
    http_certificate_file: Path | None = Field(None, description="PEM, with its chain: serves HTTPS")
    http_key_file: Path | None = None
    http_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        max_length=400,
        description="where devices reach it; offers name it",
    )
    http_max_parallel: int = Field(256, ge=1, description="requests at a time; more are told to come again")
    http_stall_s: float = Field(
        60, gt=0, le=3600, description="a client that takes nothing for so long is cut off"
    )
    keycloak_url: str | None = Field(None, description="whose tokens open images over HTTP")
    web_dir: Path | None = Field(None, description="the built web page, to be served over HTTP(S) as well")
    web_broker_url: str = Field(
        "wss://{host}:8885",
        pattern=r"^wss?://[A-Za-z0-9._{}:\[\]-]+(/[A-Za-z0-9._/-]*)?$",
        description="where the page finds the broker; {host} is the page's own host",
    )
    keycloak_realm: str = "iot"

    coredumps_kept: int = Field(20, ge=1, description="core dumps of one device; older ones are removed")
    coredumps_per_hour: int = Field(
        10, ge=1, description="core dumps that one device may begin to send in an hour"
    )
    log_keep_days: float = Field(7, gt=0, description="how long lines of devices' logs are kept")
    log_lines_kept: int = Field(10_000, ge=1, description="lines of one device's log; older ones are removed")

    @model_validator(mode="after")
    def _http_is_whole(self) -> Self:
        if self.http_port and not self.keycloak_url:
            raise ValueError("MDM_HTTP_PORT: needs MDM_KEYCLOAK_URL too")
        if (self.http_certificate_file is None) != (self.http_key_file is None):
            raise ValueError("MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE: must be given together")
        return self

    @model_validator(mode="after")
    def _an_hours_dumps_are_kept(self) -> Self:
        # What was begun within the hour is counted in the rows that are kept.
        if self.coredumps_kept < self.coredumps_per_hour:
            raise ValueError("MDM_COREDUMPS_KEPT: must be at least MDM_COREDUMPS_PER_HOUR")
        return self

    rollout_sweep_s: float = Field(1, gt=0, description="between two looks at the open rollouts")


S = TypeVar("S", bound=Settings)


def load(kind: type[S]) -> S:
    """Return the settings from the environment, or raise InvalidInputError naming each wrong variable."""
    try:
        return kind()
    except ValidationError as error:
        faults = [
            f"MDM_{str(fault['loc'][0]).upper()}: {fault['msg']}"
            if fault["loc"]
            else fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise InvalidInputError("; ".join(faults)) from None
