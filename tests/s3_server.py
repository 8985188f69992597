"""A server of S3 for tests; it wants signatures, but does not calculate them itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from dev.servers.base import HOST, Leash, Process, free_port, listens
from dev.servers.tools import MissingToolError, find_node

BUCKET: Final = "fleet"
URL: Final = f"s3://{BUCKET}/of/ours"
_PROGRAM: Final = Path(__file__).parent / "s3/node_modules/s3rver/bin/s3rver.js"


def server(folder: Path, *, leash: Leash) -> tuple[Process, Mapping[str, str]]:
    """Return a server with one bucket, and the settings of its clients; skip where it is not installed."""
    if not _PROGRAM.exists():
        pytest.skip("s3rver is not installed: run scripts/bootstrap where npm reaches its registry")
    try:
        node = find_node()
    except MissingToolError as error:
        pytest.skip(str(error))
    port = free_port()
    command: list[str | Path] = [node, _PROGRAM, "-d", folder / "s3", "-a", HOST, "-p", str(port)]
    command += ["--no-vhost-buckets", "--configure-bucket", BUCKET]
    process = Process("s3", folder / "s3.log", lambda: listens(port), command, leash=leash)
    # The server's own key.
    settings = {
        "AWS_ENDPOINT": f"http://{HOST}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "S3RVER",
        "AWS_SECRET_ACCESS_KEY": "S3RVER",
    }
    return process, settings
