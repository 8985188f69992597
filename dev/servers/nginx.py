"""nginx, as a baseline and before the firmware service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.servers.base import Leash, Process, listens
from dev.servers.tools import find_nginx

_DEPLOY: Final = Path(__file__).parents[2] / "deploy/nginx"
_MAIN: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def nginx(folder: Path, server: str, *, port: int, leash: Leash) -> Process:
    """Return nginx with a block `server`, which listens on this port; its files are in a folder, made here."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(_MAIN.format(folder=folder, server=server))
    log_file = folder / "nginx.log"
    command: list[str | Path] = [find_nginx(), "-e", log_file, "-c", configuration]
    return Process("nginx", log_file, lambda: listens(port), command, leash=leash)


def configured(name: str, values: Mapping[str, str]) -> str:
    """Return a file of deploy/nginx with values in place of its examples; ValueError if one does not occur."""
    text = (_DEPLOY / name).read_text()
    for example, value in values.items():
        if example not in text:
            raise ValueError(f"{name}: must contain {example}")
        text = text.replace(example, value)
    return text
