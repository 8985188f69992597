"""nginx, as a baseline and before the firmware service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.servers.base import HOST, Leash, Process, listens
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


def before_images(
    name: str, examples: Mapping[str, str], *, certificates: Path, port: int, service_port: int
) -> str:
    """Return a block `server` of deploy/nginx, before a firmware service with TLS on this machine.

    `examples` are further texts of the file with what replaces them; ValueError if one does not occur in it.
    """
    text = (_DEPLOY / name).read_text()
    values = {
        "listen 8443 ssl": f"listen {HOST}:{port} ssl",
        "/etc/mdm/": f"{certificates}/",
        "http://127.0.0.1:8444": f"https://{HOST}:{service_port}",
        **examples,
    }
    for example, value in values.items():
        if example not in text:
            raise ValueError(f"{name}: must contain {example}")
        text = text.replace(example, value)
    return text
