"""The ports and secrets of a native system, which one that stays keeps from its first start."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dev.servers.base import free_port


def _new_secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(slots=True)
class LocalInstallation:
    """By default new ports and secrets; with `file` the secrets in it, and with `ports` these, by name."""

    file: Path | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    _secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.exists():
            self._secrets = json.loads(self.file.read_text())

    def port(self, name: str) -> int:
        """Return the port of a listener."""
        return self.ports[name] if name in self.ports else free_port()

    def secret(self, name: str, make: Callable[[], str] = _new_secret) -> str:
        """Return a secret, which is made and kept if there is none yet."""
        if name not in self._secrets:
            self._secrets[name] = make()
            self._save()
        return self._secrets[name]

    def _save(self) -> None:
        if self.file is None:
            return
        new = self.file.with_name(f"{self.file.name}.new")
        new.touch(mode=0o600)
        with new.open("w") as file:
            file.write(json.dumps(self._secrets, indent=2))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.file)
