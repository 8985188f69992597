"""Files in the volumes of compose.yaml: each is readable by its one owner only."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Owner:
    """User and group that a container's program runs as."""

    user: int
    group: int


ROOT: Final = Owner(0, 0)
POSTGRES: Final = Owner(999, 999)
MOSQUITTO: Final = Owner(1883, 1883)
KEYCLOAK: Final = Owner(1000, 0)
GRAFANA: Final = Owner(472, 0)
MDM: Final = Owner(10001, 10001)


def give(file: Path, content: str | bytes, owner: Owner) -> bool:
    """Replace a file unless it is up to date; return whether it was replaced."""
    data = content.encode() if isinstance(content, str) else content
    if file.exists() and file.read_bytes() == data:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchown(descriptor, owner.user, owner.group)
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(file)
    return True


def environment(values: Mapping[str, object]) -> str:
    """Return settings as the lines that deploy.homelab.run reads."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Random secrets, one in a file, created on first use and never changed."""

    folder: Path

    def password(self, name: str) -> str:
        """Return the password of this name."""
        return self._kept(name, lambda: secrets.token_urlsafe(32))

    def master_keys(self, service: str, *, inherits: bool) -> str:
        """Return the master keys of a service, comma separated; a person may insert a new one before the first.

        A service that `inherits` can still read data encrypted with the keys that services once shared.
        """
        common = self.folder / "master-keys"
        old = common.read_text().split() if inherits and common.exists() else []
        keys = self._kept(f"master-keys-{service}", lambda: "\n".join([Fernet.generate_key().decode(), *old]))
        return ",".join(keys.split())

    def hosts(self, wanted: str, guess: Callable[[], str]) -> list[str]:
        """Return the names by which devices reach this machine, newest first: the wanted one, or else a guess.

        Earlier ones are kept: they are in the packages of devices, for which the certificate must remain valid.
        """
        known = self._kept("hosts", lambda: wanted or guess()).split()
        if wanted and wanted != known[0]:
            known = [wanted, *(name for name in known if name != wanted)]
            give(self.folder / "hosts", "\n".join(known), ROOT)
        return known

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        file = self.folder / name
        if not file.exists():
            give(file, make(), ROOT)
        return file.read_text().strip()
