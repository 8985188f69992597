"""The packages of many devices: files in a folder, or one ZIP file, that only their owner may read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from cli import batches, client, output, session
from shared.errors import ConflictError
from shared.protocol import admin


def check(target: Path) -> None:
    """Raise ConflictError if the ZIP file exists, CannotWriteError if the folder cannot be made."""
    if _is_zip(target):
        if target.exists():
            raise ConflictError(f"--packages: {target} exists; name another file")
        return
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise output.CannotWriteError(f"--packages: {target} cannot be made: {error.strerror}") from error


def write(here: session.Session, client_ids: Sequence[str], target: Path) -> None:
    """Write the package of each device as `{client id}.json`; a file that exists in the folder is replaced."""
    packages: list[admin.Package] = []

    async def work(connection: client.Admin) -> None:
        async def fetch(client_id: str) -> None:
            request = client.build(admin.DEVICE_PROVISION, device=client_id)
            packages.append(await connection.call(admin.DEVICE_PROVISION, request, timeout_s=here.timeout_s))

        await batches.each(client_ids, fetch, label="packages")

    here.run(work)
    files = {f"{it.client_id}.json": it.model_dump_json(indent=2) + "\n" for it in packages}
    if not _is_zip(target):
        for name, text in files.items():
            output.write_private(target / name, text, replace=True)
        return
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o600 << 16
            opened.writestr(entry, text)
    output.write_private(target, archive.getvalue(), replace=False)


def _is_zip(target: Path) -> bool:
    return target.suffix.lower() == ".zip"
