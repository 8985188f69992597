"""Mosquitto as a process, with the configuration that deploy/broker.py renders."""

from __future__ import annotations

import getpass
import socket
import warnings
from typing import TYPE_CHECKING

from deploy import broker, certificates
from dev.servers import base, tools

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# CONNECT of MQTT 3.1.1: clean session, client id "p", no user name. Any CONNACK, also a refusal, means "ready".
_CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01p"
_CONNACK = b"\x20"


def answers(port: int) -> bool:
    """Return whether a broker answers on this port."""
    try:
        with socket.create_connection((base.HOST, port), timeout=2) as connection:
            connection.sendall(_CONNECT)
            return connection.recv(1) == _CONNACK
    except OSError:
        return False


class Mosquitto(base.Process):
    """A broker with its data below `folder`; `accounts` maps each account to its password."""

    def __init__(
        self,
        folder: Path,
        port: int,
        devices_port: int,
        claims_port: int,
        web_port: int,
        *,
        accounts: Mapping[str, str],
        leash: base.Leash,
    ) -> None:
        mosquitto = tools.find_mosquitto()
        if mosquitto.version < tools.MOSQUITTO_WANTED:
            version, wanted = (".".join(map(str, v)) for v in (mosquitto.version, tools.MOSQUITTO_WANTED))
            warnings.warn(
                f"Mosquitto {version} is older than {wanted} and may lose its accounts in a crash",
                stacklevel=2,
            )
        own = folder / "mosquitto"
        server = certificates.ensure_server_certificate(folder / "certificates", ["localhost", base.HOST])
        configuration = broker.write_files(
            own,
            own / "data",
            broker.Settings(
                plugin=mosquitto.plugin,
                certificate_file=server.certificate,
                key_file=server.key,
                acl_file=own / "acl",
                data_folder=own / "data",
                services_port=port,
                services_address=base.HOST,
                devices_port=devices_port,
                devices_address=base.HOST,
                claims_port=claims_port,
                claims_address=base.HOST,
                web_port=web_port,
                web_address=base.HOST,
                user=getpass.getuser(),
            ),
            accounts,
        )
        super().__init__(
            "broker",
            folder / "logs/broker.log",
            lambda: answers(port),
            [mosquitto.program, "-c", configuration],
            leash=leash,
        )
