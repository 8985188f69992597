"""compose.yaml brought up under a name and on ports of its own."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from cli.profile import Profile
from tests.compose.engine import ROOT

UP_TIMEOUT_S: Final = 1200
TIMEOUT_S: Final = 180
_LABEL: Final = "label=com.docker.compose.project="


class ComposeError(Exception):
    """A command failed; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One project; `environment` is what docker and compose.yaml need."""

    name: str
    environment: Mapping[str, str]

    def docker(
        self,
        *arguments: str | Path,
        folder: Path = ROOT,
        timeout_s: float = TIMEOUT_S,
        program: str | Path = "docker",
    ) -> str:
        """Run docker, or another program, as a person would, and return what it prints."""
        done = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env={**os.environ, **self.environment, "COMPOSE_PROJECT_NAME": self.name},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if done.returncode:
            raise ComposeError(f"{' '.join(map(str, arguments))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def up(self) -> None:
        """Do what the README says, and return when all is healthy."""
        self.docker("compose", "up", "--detach", "--wait", timeout_s=UP_TIMEOUT_S)

    def down(self, *options: str) -> None:
        """Stop and remove the containers."""
        self.docker("compose", "--profile", "*", "down", *options, timeout_s=UP_TIMEOUT_S)

    def mdm(self, folder: Path, *arguments: str | Path) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run the admin tool in a folder and return what it prints."""
        said = self.docker("--json", *arguments, folder=folder, program=ROOT / "scripts/mdm-compose")
        return json.loads(said)

    def containers(self) -> dict[str, Mapping[str, Any]]:
        """Return what docker knows of each service's container."""
        names = self.docker("ps", "--all", "--quiet", "--filter", _LABEL + self.name).split()
        facts: Sequence[Mapping[str, Any]] = json.loads(self.docker("inspect", *names)) if names else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in facts}

    def remains(self) -> list[str]:
        """Return the ids of what there is of the project."""
        return [
            found
            for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
            for found in self.docker(*kind, "--quiet", "--filter", _LABEL + self.name).split()
        ]

    def secrets(self) -> set[str]:
        """Return all passwords and keys that `init` has made."""
        script = "cd /volumes/authority/secrets && for file in *; do [ $file = hosts ] || cat $file; echo; done"
        said = self.docker("compose", "exec", "-T", "certificates", "sh", "-c", script)
        return set(said.split())

    @property
    def profile(self) -> Profile:
        """How the tests listen to the broker from this machine, as an admin; nobody outside can."""
        said = self.docker(
            *("compose", "run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", "mdm", "/run/mdm/environment")
        )
        settings = dict(line.split("=", 1) for line in said.split())
        networks = self.containers()["broker"]["NetworkSettings"]["Networks"]
        return Profile(
            host=networks[f"{self.name}_outer"]["IPAddress"],
            account=settings["MDM_ACCOUNT"],
            password=SecretStr(settings["MDM_PASSWORD"]),
        )

    def port(self, variable: str) -> int:
        """Return a published port."""
        return int(self.environment[variable])


def certificate(host: str, port: int, authority: str) -> bytes:
    """Return the certificate that a new connection sees, checked as devices check it."""
    context = ssl.create_default_context(cadata=authority)
    with (
        socket.create_connection((host, port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=host) as encrypted,
    ):
        seen = encrypted.getpeercert(binary_form=True)
    assert seen is not None
    return seen
