"""The settings of the services, tools and scripts; docs/settings.md is generated from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from shared import crypto
from shared.runtime import schedule_rules

_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_LONGEST_S: Final = 3650 * _DAY_S
_URL: Final = r"^https?://[^\s/?#]+(/[^\s?#]*)?$"


def _readable(file: Path) -> Path:
    try:
        file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    return file


Port = Annotated[int, Field(ge=1, le=65535)]
OptionalPort = Annotated[int, Field(ge=0, le=65535)]
Host = Annotated[str, Field(pattern=r"^[^\s/]+$")]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S)]
PerSecond = Annotated[float, Field(ge=0.1, le=100_000)]
Burst = Annotated[int, Field(ge=10, le=100_000)]
ReadableFile = Annotated[Path, AfterValidator(_readable)]

PUBLIC_URL: Final[Any] = Field(
    None,
    pattern=_URL,
    description="Keycloak's base URL as devices see it, if different: `token_url` is derived from it, and it "
    "is the issuer of tokens",
)


HTTP_URL: Final[Any] = Field(
    None,
    pattern=_URL,
    max_length=400,
    description="where devices reach images, as `https://images.example.org`: offers carry a `url` if it is set, "
    "and the registry watches its certificate",
)


TOKEN_URL: Final[Any] = Field(
    None,
    pattern=_URL,
    description="Keycloak's token endpoint: log in to the broker with a token from it; the account is a client "
    "of Keycloak then, and the password its secret",
)


class DatabaseSettings(BaseSettings):
    """Settings of `python -m shared.database.migrate`."""

    model_config = SettingsConfigDict(env_prefix="MDM_", extra="ignore", frozen=True)

    database_url: SecretStr = Field(
        description="the database, as `postgresql+asyncpg://user:password@host/database`"
    )

    @field_validator("database_url")
    @classmethod
    def _of_asyncpg(cls, url: SecretStr) -> SecretStr:
        try:
            parts = make_url(url.get_secret_value())
        except (ArgumentError, ValueError):
            parts = None
        if parts is None or parts.drivername != "postgresql+asyncpg" or not parts.database:
            raise ValueError("must be postgresql+asyncpg://user:password@host/database")
        return url


class PlaceSettings(DatabaseSettings):
    """The installation and its broker."""

    instance: str = Field("default", pattern=r"^[a-z0-9-]{1,50}$", description="marks our clients in Keycloak")
    mqtt_host: Host = Field("127.0.0.1", description="the broker")
    mqtt_port: Port = Field(1883, description="its port for services")


class KeycloakSettings(PlaceSettings):
    """Settings to change identities in Keycloak."""

    keycloak_url: str = Field(
        pattern=_URL,
        description="Keycloak's base URL; devices get the `token_url` derived from it; the firmware service needs "
        "it for HTTP only, the same as the registry's",
    )
    keycloak_public_url: str | None = PUBLIC_URL
    keycloak_realm: str = Field("iot", min_length=1, description="the realm")
    keycloak_client_id: str = Field(min_length=1, description="the service's client in Keycloak")
    keycloak_client_secret: SecretStr = Field(description="its secret")


class ProcessSettings(BaseSettings):
    """Settings of every long-running process."""

    model_config = SettingsConfigDict(env_prefix="MDM_", extra="ignore", frozen=True)

    log_format: Literal["json", "console"] = Field("json", description="JSON, or lines for people")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least to log")
    metrics_port: OptionalPort = Field(
        0, description="port of the Prometheus metrics, on all interfaces; 0 serves none"
    )


class ServiceSettings(ProcessSettings, PlaceSettings):
    """Settings of every service."""

    health_file: Path | None = Field(
        None, description="touched while broker and database answer, for `python -m shared.runtime.health`"
    )
    mqtt_password: SecretStr = Field(
        description="password of the service's own broker account: `svc-registry`, `svc-rotator`, `svc-firmware`"
    )
    mqtt_token_url: str | None = TOKEN_URL
    device_rate_per_s: PerSecond = Field(
        20,
        description="messages per second of a topic that a service accepts from one device, see "
        "[floods](operations.md#floods)",
    )
    device_burst: Burst = Field(100, description="how many of them at once after a pause")


class IdentitySettings(ServiceSettings, KeycloakSettings):
    """Settings of a service that changes identities in Keycloak and accounts in the broker."""

    broker_auth: Literal["passwords", "token"] = Field(
        "passwords",
        description="how the broker authenticates devices: by accounts with passwords, which the services create, "
        "or by [tokens](scaling.md) of Keycloak; the same for registry and rotator; goes into packages",
    )
    accounts_password: SecretStr | None = Field(
        None,
        validate_default=True,
        description="password of the broker account `svc-accounts`; needed with `passwords`",
    )

    @field_validator("accounts_password")
    @classmethod
    def _accounts_can_be_made(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if password is None and info.data.get("broker_auth") == "passwords":
            raise ValueError("must be given, unless MDM_BROKER_AUTH is token")
        return password


def fernet_keys(given: object) -> object:
    """Return the keys in a text, or raise ValueError if one of them is invalid."""
    if not isinstance(given, str):
        return given
    keys = [SecretStr(key) for key in given.replace(",", " ").split()]
    try:
        crypto.Vault(keys)
    except ValueError:
        raise ValueError("each key must be 32 bytes in base64url, as Fernet.generate_key() makes it") from None
    return keys


class KeySettings(ServiceSettings):
    """Settings of a service that encrypts data at rest."""

    master_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        description="Fernet keys, comma separated or one on a line; the first encrypts, all decrypt"
    )

    _fernet_keys = field_validator("master_keys", mode="before")(fernet_keys)


class RegistrySettings(IdentitySettings, KeySettings):
    """Settings of the registry; the device_* ones go into packages and are the lowest layer of connections."""

    device_mqtt_host: Host = Field(
        "127.0.0.1",
        description="the broker as devices see it; goes into packages; a change [moves devices](connections.md)",
    )
    device_mqtt_port: Port = Field(8883, description="its port for devices; as above")
    device_mqtt_tls: bool = Field(default=True, description="whether devices use TLS; as above")
    device_ca_file: ReadableFile | None = Field(
        None,
        description="PEM file of the authorities that devices must trust, at most 16000 characters; as above, and "
        "read again while the registry runs",
    )
    broker_api_urls: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+ ?)*$",
        description="with `MDM_BROKER_AUTH=token`: the API of each node of the broker, separated by spaces, as "
        "`http://node:6060/api/v1`: it disconnects devices at once; else they stay until their token expires",
    )
    broker_api_token: SecretStr | None = Field(None, description="its bearer token, if it needs one")
    claim_mqtt_port: Port = Field(
        8884, description="the broker's port for machines without an identity; goes into claim packages"
    )
    claim_rate_per_s: PerSecond = Field(
        5, description="requests per second that each registry accepts from all machines of one claim together"
    )
    claim_burst: Burst = Field(200, description="how many of them at once after a pause")
    claim_window_s: Seconds = Field(
        _DAY_S, description="how long a repeated request of a machine gets the same identity"
    )
    tls_servers: str | None = Field(
        None,
        pattern=r"^([^\s/@,]+:[0-9]{1,5} )*[^\s/@,]+:[0-9]{1,5}$",
        description="servers whose [certificates](operations.md#certificates) are watched, as `host:port`, "
        "separated by spaces; by default the broker as devices see it, and `https` URLs of Keycloak and images",
    )
    http_url: str | None = HTTP_URL
    reconcile_s: Seconds | None = Field(
        None,
        description="time between the [comparisons](operations.md#when-database-keycloak-and-broker-do-not-agree) "
        "of database, Keycloak and broker; by default 150 times as long as one takes, at least 300",
    )
    config_keep: int = Field(
        100,
        ge=2,
        le=1_000_000,
        description="how many newest versions of a device's configuration are kept, besides the one that it last "
        "reported",
    )
    events_keep_days: float = Field(
        30,
        gt=0,
        le=3650,
        description="how many days [events](operations.md#what-has-happened) are kept",
    )
    health_warning_s: Seconds = Field(300, description="offline and silent for longer: warning")
    health_critical_s: Seconds = Field(_DAY_S, description="... for longer: critical")
    health_inactive_s: Seconds = Field(30 * _DAY_S, description="... for longer: inactive")


class RotatorSettings(IdentitySettings, KeySettings):
    """Settings of the rotator; times in seconds."""

    rotation_deadline_s: Seconds = Field(300, description="how long a device has from the offer to its `ack`")
    rotation_retry_s: float = Field(
        _HOUR_S, ge=0, le=_LONGEST_S, description="how long a device in TIMEOUT waits for its retry"
    )
    rotation_schedule: Annotated[str, AfterValidator(schedule_rules.cron_expression)] = Field(
        "0 8 * * 6#1",
        description="when all devices are queued, unless an admin has set another "
        "[schedule](operations.md#the-schedule): cron, five fields; empty: never",
    )
    rotation_time_zone: Annotated[str, AfterValidator(schedule_rules.time_zone)] = Field(
        "UTC", description="IANA name of the zone of this schedule, as `Europe/Berlin`"
    )
    rotation_grace_s: float = Field(
        _DAY_S, ge=60, le=_LONGEST_S, description="how late a run that all rotators missed is still made up for"
    )
    rotation_max_parallel: int = Field(1, ge=1, le=10_000, description="how many devices rotate at a time")
    rotations_keep_days: float = Field(
        365, gt=0, le=3650, description="how many days the history of rotations is kept"
    )
    sweep_s: Seconds = Field(1, description="how often the leader looks without a wake-up")
    leader_poll_s: Seconds = Field(
        0.5, description="how often a standby tries to lead; must be less than the lease"
    )
    leader_lease_s: float = Field(
        2, gt=0, le=_HOUR_S, description="a leader that is silent for longer loses the lock"
    )

    @model_validator(mode="after")
    def _polls_within_the_lease(self) -> Self:
        if self.leader_poll_s >= self.leader_lease_s:
            raise ValueError("MDM_LEADER_POLL_S: must be less than MDM_LEADER_LEASE_S")
        return self


class FirmwareSettings(KeySettings):
    """Settings of the firmware service."""

    assets_url: str = Field(
        description="where images are kept: `file:///path`, `s3://bucket/prefix` (with `AWS_...` variables); "
        "`memory:///` for tests"
    )
    assets_dir: Path | None = Field(
        None,
        description="a folder in which the image of each model is `firmware-{code}.bin`, see "
        "[images](operations.md#images)",
    )
    firmware_keep: int = Field(5, ge=0, description="how many newest images of each model are kept; 0 keeps all")
    chunk_size_bytes: int = Field(
        16 * 1024, ge=256, le=64 * 1024, description="size of the chunks of an image for devices"
    )
    firmware_bytes_per_s: int = Field(
        0,
        ge=0,
        description="of images per second that one firmware service sends, to all devices together; 0: no limit",
    )
    http_host: Host = Field("127.0.0.1", description="the address to serve images on over HTTP")
    http_port: OptionalPort = Field(0, description="its port; 0 serves none")
    http_certificate_file: Path | None = Field(
        None, description="PEM file of the server's certificate, with its chain: makes it HTTPS"
    )
    http_key_file: Path | None = Field(None, description="PEM file of its key; both or neither")
    http_url: str | None = HTTP_URL
    http_accel: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9._-]+$",
        description="with [nginx in front](operations.md#images-through-nginx): the internal location below which "
        "nginx finds the stored images, as `/stored`; nginx sends them then",
    )
    http_max_parallel: int = Field(
        256, ge=1, le=100_000, description="requests at a time; others are answered with 503"
    )
    http_max_per_address: int = Field(
        100,
        ge=1,
        le=100_000,
        description="connections of one address (IPv6: of one /64); others are [reset](operations.md#floods); for "
        "where many share an address, as behind a proxy",
    )
    http_stall_s: float = Field(
        60, gt=0, le=3600, description="a client that reads nothing for longer is disconnected"
    )
    web_dir: Path | None = Field(
        None, description="the built [web page](operations.md#the-web-page) (`web/dist`), to be served there too"
    )
    web_broker_url: str = Field(
        "wss://{host}:8885",
        pattern=r"^wss?://[A-Za-z0-9._{}:\[\]-]+(/[A-Za-z0-9._/-]*)?$",
        description="the broker's address for the page; `{host}` is the host from which the page was loaded",
    )
    keycloak_url: str | None = Field(
        None, pattern=_URL, description="base URL of the Keycloak whose tokens grant access to images over HTTP"
    )
    keycloak_public_url: str | None = PUBLIC_URL
    keycloak_realm: str = Field("iot", min_length=1, description="the realm")

    coredumps_kept: int = Field(
        20,
        ge=1,
        description="core dumps of one device that are kept; older ones are removed; at least those of an hour",
    )
    coredumps_per_hour: int = Field(
        10, ge=1, description="core dumps that one device may begin to send in an hour"
    )
    log_keep_days: float = Field(7, gt=0, le=3650, description="how many days lines of devices' logs are kept")
    log_lines_kept: int = Field(
        10_000, ge=1, description="lines of one device's log (a tenth more at times); older ones are removed"
    )
    vitals_keep_days: float = Field(
        30, gt=0, le=3650, description="how many days [vitals](protocol.md#vitals) of devices are kept"
    )
    rollout_sweep_s: Seconds = Field(1, description="interval at which open rollouts are advanced")
    rollouts_keep_days: float = Field(
        365,
        gt=0,
        le=3650,
        description="how many days rollouts are kept after their end, except for those in force",
    )
    homeassistant: bool = Field(
        default=False,
        description="whether [Home Assistant](operations.md#home-assistant) gets the devices",
    )
    homeassistant_refresh_s: Seconds = Field(
        3600, description="interval at which all of them are published again, besides at each change"
    )

    @model_validator(mode="after")
    def _http_is_whole(self) -> Self:
        if self.http_port and not self.keycloak_url:
            raise ValueError("MDM_HTTP_PORT: needs MDM_KEYCLOAK_URL too")
        if (self.http_certificate_file is None) != (self.http_key_file is None):
            raise ValueError("MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE: must be given together")
        return self

    @model_validator(mode="after")
    def _an_hours_dumps_are_kept(self) -> Self:
        # The dumps of an hour are counted in the stored rows.
        if self.coredumps_kept < self.coredumps_per_hour:
            raise ValueError("MDM_COREDUMPS_KEPT: must be at least MDM_COREDUMPS_PER_HOUR")
        return self


class ClaimProxySettings(ProcessSettings):
    """Settings of the [proxy](operations.md#the-proxy-for-claims) before the broker's listener for claims."""

    mqtt_host: Host = Field("127.0.0.1", description="the broker")
    claim_proxy_host: Host = Field("127.0.0.1", description="the address on which machines reach the proxy")
    claim_proxy_port: Port = Field(8884, description="its port")
    claim_proxy_broker_port: Port = Field(8884, description="the port of the broker's own listener for claims")
    claim_proxy_max_per_address: int = Field(
        100,
        ge=1,
        le=100_000,
        description="machines of one address (IPv6: of one /64) that are connected; others are "
        "[reset](operations.md#floods)",
    )


class BackupSettings(KeycloakSettings):
    """Settings of backup and restore, which run on the services' host."""

    assets_url: str = Field(description="where images are kept, as for the firmware service")
    broker_accounts_file: Path | None = Field(
        None,
        description="the broker's `dynamic-security.json`, see [backup](operations.md#backup-and-restore); "
        "without it claims and admins lose their passwords",
    )
    backup_passphrase: SecretStr | None = Field(
        None, description="encrypts the backup; asked for if it is not given"
    )
    master_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        description="Fernet keys, comma separated or one on a line; the first encrypts, all decrypt"
    )

    _fernet_keys = field_validator("master_keys", mode="before")(fernet_keys)


class ToolSettings(BaseSettings):
    """Environment variables of the admin tool, for values that neither an option nor the profile sets."""

    host: str | None = Field(None, description="the broker's name")
    port: Port | None = Field(None, description="its port: without it 1883, with TLS 8883")
    account: str | None = Field(None, description="the account to connect as")
    password: SecretStr | None = Field(None, description="the account's password")
    ca_file: Path | None = Field(None, description="use TLS, with the authorities in this PEM file")
    token_url: str | None = TOKEN_URL
    profile: Path | None = Field(
        None, description="a file with all of these, TOML or JSON; without it `~/.config/mdm/profile.toml`"
    )


class ScriptSettings(BaseSettings):
    """Environment variables of the scripts behind `make`."""

    cache: Path | None = Field(None, description="folder of downloads; without it `~/.cache/device-mdm`")


READERS: Final[Mapping[str, type[BaseSettings]]] = {
    "registry": RegistrySettings,
    "rotator": RotatorSettings,
    "firmware": FirmwareSettings,
    "claim proxy": ClaimProxySettings,
    "backup": BackupSettings,
    "migrate": DatabaseSettings,
    "mdm": ToolSettings,
    "make": ScriptSettings,
}
"""Settings by program."""
