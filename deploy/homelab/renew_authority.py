"""Changes the authority that devices trust: `python -m deploy.homelab.renew_authority advance|back [--force]`.

`advance` takes the next step, if nobody is locked out by it, from what `mdm --json connection status` prints. Each
is run by scripts/mdm-compose renew-authority.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cryptography import x509

from deploy.homelab import authority, renewal
from deploy.homelab.authority import Stage
from shared import authorities
from shared.protocol import admin

if TYPE_CHECKING:
    from pathlib import Path


def advance(folder: Path, status: admin.ConnectionStatus, *, force: bool) -> str:
    """Take the next step, and return what is to be known of it; unless `force`, not if it locks anybody out."""
    now = authority.stage(folder)
    if now is Stage.SETTLED:
        authority.begin(folder)
        return (
            "There is a next authority. Devices learn to trust it next to the present one when they are online.\n"
            "Repeat this when they do: it lets the next one sign only when nobody trusts the present one alone."
        )
    if now is Stage.SWITCHED:
        authority.finish(folder)
        return "Done: devices will trust only the new authority, and the old one is deleted."
    waiting = _depending(folder, status)
    if waiting and not force:
        return (
            f"Nothing is changed: {waiting}.\nSee `mdm connection status`, and repeat this later. With --force "
            "the next authority signs now, and what does not trust it is locked out until it has a new package."
        )
    authority.switch(folder)
    return (
        "The next authority signs from now on: the servers load their new certificates within a minute.\n"
        "When all devices are online again, repeat this to let them forget the old one; --back undoes the step."
    )


def _depending(folder: Path, status: admin.ConnectionStatus) -> str:
    """Return who trusts the present authority alone, or nothing."""
    present = authorities.fingerprint(
        x509.load_pem_x509_certificate((folder / authority.CERTIFICATE).read_bytes())
    )
    use = next((it for it in status.authorities if it.fingerprint == present), None)
    found = []
    if use is not None and use.alone:
        found.append(f"devices that trust only the present authority: {use.alone}")
    if status.without_package:
        found.append(
            f"devices that an older version provisioned, of which nothing is known: {status.without_package}"
        )
    if use is not None and use.claims:
        found.append(f"claims that trust only the present authority: {', '.join(use.claims)}")
    return "; ".join(found)


def main() -> None:
    """Take a step, and give certificate and authorities to their users."""
    parser = argparse.ArgumentParser(description="Changes the authority that devices trust, step by step.")
    parser.add_argument("step", choices=["advance", "back"])
    parser.add_argument("--force", action="store_true", help="also if devices are locked out by it")
    given = parser.parse_args()
    folder = renewal.VOLUMES / "authority"
    if (renewal.OWN / "server.crt").exists():
        sys.exit("MDM_OWN_CERTIFICATES is set: the authority is your own, so put both into its ca.crt")
    if given.step == "back":
        authority.back(folder)
        said = f"Taken back; the change is now: {authority.stage(folder)}."
    else:
        status = admin.ConnectionStatus.model_validate_json(sys.stdin.read())
        said = advance(folder, status, force=given.force)
    renewal.renew(renewal.VOLUMES, (folder / "secrets/hosts").read_text().split())
    sys.stdout.write(said + "\n")


if __name__ == "__main__":
    main()
