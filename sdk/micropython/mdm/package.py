"""The provisioning package, or the claim package of a machine without an identity."""

import json

from mdm import tls
from mdm.slots import is_secret
from mdm.storage import StorageError


def load(folder=""):
    """Return the package in package.json, else the claim package in claim.json; raise StorageError."""
    for name in ("package.json", "claim.json"):
        try:
            with open(f"{folder}/{name}") as file:
                return check(json.load(file))
        except OSError:
            continue  # it is not there
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{name}: {error!r}")
    raise StorageError("package.json: is missing, and claim.json too")


def is_claim(package):
    """Return whether this is a claim package."""
    return package["format"] == "mdm-claim/1"


def check(package):
    """Return a package or a claim package; raise ValueError, KeyError or TypeError for one that cannot be used."""
    claim = is_claim(package)
    if not claim and package["format"] != "mdm-package/1":
        raise ValueError("format: must be mdm-package/1 or mdm-claim/1")
    if not claim and not (is_secret(package["secret"]) and package["secret_generation"] >= 0):
        raise ValueError("secret: must be 32 to 255 printable characters, with a generation")
    if not package["account" if claim else "client_id"] or not package["mqtt_host"]:
        raise ValueError("client_id, mqtt_host: must not be empty")
    if package["mqtt_tls"]:
        tls.certificates(package["ca_certificate"])
    return package
