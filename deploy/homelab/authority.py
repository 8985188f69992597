"""The authority of this machine, and the one that takes its place.

The folder has `ca.crt` and `ca.key`, which sign the server's certificate, and during a change also `next/`, the
authority that devices learn to trust, or `former/`, the one that they are to forget.
"""

from __future__ import annotations

import shutil
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from deploy import certificates
from deploy.homelab.files import ROOT, give

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE: Final = "ca.crt"
KEY: Final = "ca.key"
_NEXT: Final = "next"
_FORMER: Final = "former"


class Stage(StrEnum):
    """How far a change of the authority is."""

    SETTLED = "settled"
    BEGUN = "begun"
    SWITCHED = "switched"


def stage(folder: Path) -> Stage:
    """Return how far a change is; continue one that was interrupted."""
    for other, kept in ((_NEXT, _FORMER), (_FORMER, _NEXT)):
        # The key is moved first: without it, the certificate has yet to follow.
        if (folder / other / CERTIFICATE).exists() and not (folder / other / KEY).exists():
            _exchange(folder, other, kept)
    if _is_another(folder, _NEXT):
        return Stage.BEGUN
    return Stage.SWITCHED if _is_another(folder, _FORMER) else Stage.SETTLED


def trusted(folder: Path) -> bytes:
    """Return all certificates that devices must trust at present, as PEM."""
    others = [folder / other / CERTIFICATE for other in (_NEXT, _FORMER) if _is_another(folder, other)]
    return b"".join(file.read_bytes() for file in (folder / CERTIFICATE, *others))


def begin(folder: Path) -> None:
    """Create the next authority; from now on devices are to trust both."""
    certificates.ensure_authority(folder / _NEXT)


def switch(folder: Path) -> None:
    """Let the next authority sign from now on; the former one is kept."""
    _exchange(folder, _NEXT, _FORMER)


def back(folder: Path) -> None:
    """Let the former authority sign again; or forget the next one, which has signed nothing yet."""
    if stage(folder) is Stage.SWITCHED:
        _exchange(folder, _FORMER, _NEXT)
    else:
        shutil.rmtree(folder / _NEXT, ignore_errors=True)


def finish(folder: Path) -> None:
    """Forget the former authority: devices are to trust only the present one."""
    shutil.rmtree(folder / _FORMER, ignore_errors=True)


def _is_another(folder: Path, other: str) -> bool:
    """Return whether this is not the present authority, as its copy of an interrupted change would be."""
    file = folder / other / CERTIFICATE
    return file.exists() and file.read_bytes() != (folder / CERTIFICATE).read_bytes()


def _exchange(folder: Path, source: str, kept: str) -> None:
    """Put the authority in `source` in the place of the present one, which is kept; after a crash, do the rest."""
    if (folder / source / KEY).exists():
        for name in (KEY, CERTIFICATE):
            give(folder / kept / name, (folder / name).read_bytes(), ROOT)
        (folder / source / KEY).replace(folder / KEY)
    (folder / source / CERTIFICATE).replace(folder / CERTIFICATE)
    shutil.rmtree(folder / source)
