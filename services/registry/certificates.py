"""Certificates on which devices depend: known to end soon before they do.

A server's certificate is read from the server itself, as devices get it, whichever file or proxy it is from.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from cryptography import x509

from shared.protocol import admin
from shared.runtime import metrics
from shared.runtime.settings import RegistrySettings

log = structlog.get_logger()

LOOK_EVERY_S: Final = 3600.0
SERVER_SOON: Final = timedelta(days=21)
"""ACME clients and deploy.homelab.renewal renew 30 days before the end."""
AUTHORITY_SOON: Final = timedelta(days=365)
"""All devices need another connection profile by then."""
URGENT: Final = timedelta(days=7)
_TIMEOUT_S: Final = 5.0
_HTTPS_PORT: Final = 443
_CA_FILE: Final = "MDM_DEVICE_CA_FILE"


@dataclass(frozen=True, slots=True)
class CertificateCheck:
    """A certificate, or why there is none; `place` is the server's host and port, or the setting of the file."""

    place: str
    certificate: x509.Certificate | None = None
    error: str = ""

    @property
    def is_authority(self) -> bool:
        """Whether devices trust it, rather than see it at a server."""
        return self.place.startswith(_CA_FILE)

    def finding(self, now: datetime) -> admin.Finding | None:
        """Return what is wrong with it at `now` (UTC), and what to do."""
        if self.certificate is None:
            remedy = "check the server, or correct MDM_TLS_SERVERS"
            return admin.Finding(subject=self.place, problem=f"has no certificate: {self.error}", remedy=remedy)
        begin, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        if begin > now:
            problem = f"its certificate is not valid before {begin:%Y-%m-%d %H:%M} UTC"
        elif end > now + (AUTHORITY_SOON if self.is_authority else SERVER_SOON):
            return None
        elif end > now:
            left = end - now
            rest = f"{left.days} days" if left >= timedelta(days=2) else f"{left // timedelta(hours=1)} hours"
            problem = f"its certificate ends in {rest}, on {end:%Y-%m-%d %H:%M} UTC"
        else:
            problem = f"its certificate ended on {end:%Y-%m-%d %H:%M} UTC"
        remedy = "add its successor to the file" if self.is_authority else "renew it"
        return admin.Finding(subject=self.place, problem=problem, remedy=f"{remedy}: operations.md, Certificates")


async def look(settings: RegistrySettings) -> list[CertificateCheck]:
    """Return the certificates of the authorities in packages and of all servers."""
    servers = await asyncio.gather(*map(_of_server, _servers(settings)))
    authorities = () if settings.device_ca_file is None else _in_file(settings.device_ca_file)
    return [*authorities, *servers]


async def findings(settings: RegistrySettings) -> list[admin.Finding]:
    """Return what is wrong with certificates now, for `mdm doctor`."""
    now = datetime.now(UTC)
    return [found for check in await look(settings) if (found := check.finding(now)) is not None]


async def report(settings: RegistrySettings) -> dict[str, str]:
    """Set the metric of each certificate, log those that end soon, and return what is wrong, by place."""
    problems = {}
    now = datetime.now(UTC)
    checks = await look(settings)
    # Not before: while servers are asked, the metrics stay.
    metrics.CERTIFICATE_ENDS.clear()
    for check in checks:
        certificate, found = check.certificate, check.finding(now)
        if certificate is not None:
            metrics.CERTIFICATE_ENDS.labels(check.place).set(certificate.not_valid_after_utc.timestamp())
        if found is not None:
            is_urgent = certificate is not None and certificate.not_valid_after_utc < now + URGENT
            write = log.error if is_urgent else log.warning
            write("certificate.found", place=check.place, problem=found.problem, remedy=found.remedy)
            problems[check.place] = f"{check.place}: {found.problem}"
    return problems


def _servers(settings: RegistrySettings) -> list[str]:
    """Return the servers to look at, as `host:port`."""
    if settings.tls_servers is not None:
        return settings.tls_servers.split()
    urls = (settings.keycloak_url, settings.keycloak_public_url, settings.http_url)
    parts = [urlsplit(url) for url in urls if url is not None]
    found = [_server(it.hostname or "", it.port or _HTTPS_PORT) for it in parts if it.scheme == "https"]
    if settings.device_mqtt_tls:
        found.insert(0, _server(settings.device_mqtt_host, settings.device_mqtt_port))
    return list(dict.fromkeys(found))


def _server(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _of_server(server: str) -> CertificateCheck:
    place = urlsplit(f"//{server}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # It is only looked at; one that has ended must be seen, too.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(place.hostname, place.port, ssl=context)
    except TimeoutError:
        return CertificateCheck(server, error=f"no answer over TLS within {_TIMEOUT_S:g} s")
    except (OSError, ValueError) as error:
        return CertificateCheck(server, error=f"cannot connect over TLS: {error}")
    try:
        content = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    try:
        return CertificateCheck(server, x509.load_der_x509_certificate(content))
    except ValueError as error:
        return CertificateCheck(server, error=str(error))


def _in_file(file: Path) -> Iterator[CertificateCheck]:
    try:
        for certificate in x509.load_pem_x509_certificates(file.read_bytes()):
            yield CertificateCheck(f"{_CA_FILE} {certificate.subject.rfc4514_string()}", certificate)
    except (OSError, ValueError) as error:
        yield CertificateCheck(_CA_FILE, error=str(error))
