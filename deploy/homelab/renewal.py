"""Renews the server's certificate while the system runs: `python -m deploy.homelab.renewal [--now]`.

It checks once a minute. The users of the files detect new ones by themselves: the broker by broker.sh.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy import certificates
from deploy.homelab import authority
from deploy.homelab.files import KEYCLOAK, MDM, MOSQUITTO, give

if TYPE_CHECKING:
    from collections.abc import Sequence

VOLUMES: Final = Path("/volumes")
OWN: Final = Path("/own")
LOOK_EVERY_S: Final = 60.0
_SERVERS: Final = (("broker", MOSQUITTO), ("keycloak", KEYCLOAK), ("firmware", MDM))
_TRUSTING: Final = (("broker", MOSQUITTO), ("registry", MDM))
_INNER_NAMES: Final = ("localhost", "127.0.0.1")


def renew(volumes: Path, hosts: Sequence[str], *, own: Path = OWN, now: bool = False) -> bool:
    """Copy certificate, key and authority to all their users; return whether the certificate is new.

    `server.crt`, `server.key` and `ca.crt` in the folder `own` are used as they are, if present. Otherwise the
    authority in the volume signs a certificate, `now` or when the old one is about to expire.
    """
    folder = volumes / "authority"
    if (own / "server.crt").exists():
        server = certificates.CertificateFiles(own / "server.crt", own / "server.key")
        trusted = (own / "ca.crt").read_bytes()
    else:
        authority.stage(folder)
        if now:
            (folder / "server.crt").unlink(missing_ok=True)
        server = certificates.ensure_server_certificate(folder, [*hosts, *_INNER_NAMES])
        trusted = authority.trusted(folder)
    certificate, key = server.certificate.read_bytes(), server.key.read_bytes()
    changed = False
    for name, owner in _SERVERS:
        # The key first: users watch the certificate.
        give(volumes / name / "server.key", key, owner)
        changed = give(volumes / name / "server.crt", certificate, owner) or changed
    for name, owner in _TRUSTING:
        give(volumes / name / "ca.crt", trusted, owner)
    return changed


def main() -> None:
    """Renew once if --now is given, else run forever and renew in time."""
    parser = argparse.ArgumentParser(description="Renews the server's certificate while the system runs.")
    parser.add_argument("--now", action="store_true", help="renew at once and exit")
    once = parser.parse_args().now
    hosts = (VOLUMES / "authority/secrets/hosts").read_text().split()
    while True:
        if renew(VOLUMES, hosts, now=once):
            sys.stdout.write("the server has a new certificate\n")
            sys.stdout.flush()
        if once:
            return
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
