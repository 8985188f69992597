"""Connection settings: options and environment take precedence over a profile file."""

from __future__ import annotations

import json
import os
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from cli import output
from shared.errors import FleetError
from shared.protocol.topics import explain
from shared.protocol.wording import pattern

PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883
_NEEDED: Final = ("host", "account", "password")


class ProfileError(FleetError):
    """The profile is unusable; the message names the file or the field."""

    code = "profile"


class Profile(BaseModel):
    """A broker and an account; `ca_file` (PEM) or `tls` (the system's authorities) enables TLS.

    With `token_url`, the account is a client of Keycloak, which issues a token for the password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = PLAIN_PORT
    account: Annotated[str, pattern(r"^[^/+#\x00]+$", "must be a name without /, + and #")]
    password: SecretStr
    ca_file: Path | None = None
    tls: bool = False
    token_url: Annotated[str, pattern(r"^https?://", "must begin with http:// or https://")] | None = None

    def save(self, path: Path) -> None:
        """Write the profile with mode 0600, as JSON if the name ends in .json, else as TOML."""
        facts = self.model_dump(mode="json", exclude_none=True)
        facts["password"] = self.password.get_secret_value()
        if path.suffix == ".json":
            text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        else:
            text = "".join(f"{name} = {_toml(value)}\n" for name, value in facts.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        output.write_private(path, text, replace=True)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, or None for a connection without TLS."""
        if self.ca_file is None:
            return ssl.create_default_context() if self.tls else None
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except OSError as error:
            raise ProfileError(f"ca_file: {self.ca_file} cannot be read as PEM certificates: {error}") from error


def default_path() -> Path:
    """Return the default path of the profile, by the XDG base directory specification."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "mdm" / "profile.toml"


def resolve(path: Path | None, given: Mapping[str, Any]) -> Profile:
    """Return the profile in the file, overridden by the settings `given` that are not None.

    Without a path, the default one is read if it exists. Raise ProfileError.
    """
    place = path or default_path()
    facts = read(place) if path or place.exists() else {}
    facts.update({name: value for name, value in given.items() if value is not None})
    return complete(facts, place)


def complete(facts: dict[str, Any], place: Path) -> Profile:
    """Return the profile with these settings, or raise ProfileError, which names `place` as the file to write."""
    unknown = sorted(facts.keys() - Profile.model_fields.keys())
    if unknown:
        known = ", ".join(Profile.model_fields)
        raise ProfileError(f"profile: {place} has the unknown key {unknown[0]}; there are {known}")
    missing = [name for name in _NEEDED if name not in facts]
    if missing:
        variables = ", ".join(f"MDM_{name.upper()}" for name in missing)
        raise ProfileError(
            f"profile: no {', '.join(missing)}; `mdm login` asks and writes {place}; or set {variables}"
        )
    encrypted = facts.get("ca_file") or facts.get("tls")
    facts.setdefault("port", TLS_PORT if encrypted else PLAIN_PORT)
    try:
        return Profile.model_validate(facts)
    except ValidationError as error:
        raise ProfileError(f"profile: {explain(error)}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the settings in a profile file; refuse a password in a file that others may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read().decode()
        facts = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ProfileError(f"profile: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ProfileError(
            f"profile: {path} is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}"
        ) from error
    if not isinstance(facts, dict):
        raise ProfileError(f"profile: {path} must contain names and values at the top level")
    if "password" in facts and mode & 0o077 and os.name == "posix":
        raise ProfileError(
            f"profile: {path} contains a password and must have mode 0600, has {mode:04o}; run chmod 600 {path}"
        )
    if isinstance(facts.get("ca_file"), str):
        facts["ca_file"] = path.parent / facts["ca_file"]
    return facts


def _toml(value: object) -> str:
    """Return a scalar in TOML: a JSON string is a TOML string, except for U+007F."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
