"""Certificates on which devices depend, seen before they end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy import certificates as issuer
from services.registry import certificates

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


def settings(**given: object) -> Any:  # noqa: ANN401 - only what is looked at
    usual = {
        "tls_servers": None,
        "device_ca_file": None,
        "device_mqtt_tls": False,
        "device_mqtt_host": "broker",
        "device_mqtt_port": 8883,
        "keycloak_url": "http://keycloak:8080",
        "keycloak_public_url": None,
        "http_url": None,
    }
    return SimpleNamespace(**{**usual, **given})


def issued(folder: Path, monkeypatch: pytest.MonkeyPatch, *, left: timedelta) -> issuer.CertificateFiles:
    """Return a server's certificate for 127.0.0.1 that ends after this time."""
    monkeypatch.setattr(issuer, "SERVER_VALID", left)
    return issuer.ensure_server_certificate(folder, ["127.0.0.1"])


@asynccontextmanager
async def serving(files: issuer.CertificateFiles) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("left", "problem", "level"),
    [
        (timedelta(hours=20, minutes=1), "its certificate ends in 20 hours, on ", "error"),
        (timedelta(days=20, minutes=1), "its certificate ends in 20 days, on ", "warning"),
        (timedelta(minutes=-1), "its certificate ended on ", "error"),
        (timedelta(days=22), None, None),
    ],
)
async def test_a_certificate_that_a_server_shows_is_found_logged_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: timedelta, problem: str | None, level: str | None
) -> None:
    files = issued(tmp_path, monkeypatch, left=left)
    end = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    async with serving(files) as place:
        with capture_logs() as logs:
            await certificates.report(settings(tls_servers=place))
        found = await certificates.findings(settings(tls_servers=place))

    metric = REGISTRY.get_sample_value("mdm_certificate_end_timestamp_seconds", {"place": place})
    assert metric == end.timestamp()
    if problem is None:
        assert (found, logs) == ([], [])
        return
    assert [(it.subject, it.remedy) for it in found] == [(place, "renew it: operations.md, Certificates")]
    assert found[0].problem == f"{problem}{end:%Y-%m-%d %H:%M} UTC"
    assert [(it["event"], it["log_level"], it["place"]) for it in logs] == [("certificate.found", level, place)]


async def test_the_metric_stays_while_a_server_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = certificates.look
    seen = []

    async def look(given: Any) -> list[certificates.CertificateCheck]:  # noqa: ANN401 - as `settings`
        seen.append(REGISTRY.get_sample_value("mdm_certificate_end_timestamp_seconds", {"place": place}))
        return await asked(given)

    monkeypatch.setattr(certificates, "look", look)
    async with serving(issued(tmp_path, monkeypatch, left=timedelta(days=22))) as place:
        for _ in range(2):
            await certificates.report(settings(tls_servers=place))
    assert (seen[0], bool(seen[1])) == (None, True)


async def test_a_server_without_tls_or_without_an_answer_is_found_and_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(certificates, "_TIMEOUT_S", 0.2)

    async def answer(said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(partial(answer, b""), "127.0.0.1", 0)
    plain = await asyncio.start_server(partial(answer, b"no TLS"), "127.0.0.1", 0)
    async with silent, plain:
        places = [f"127.0.0.1:{it.sockets[0].getsockname()[1]}" for it in (silent, plain)]
        closed = "127.0.0.1:1"
        await certificates.report(settings(tls_servers=" ".join([*places, closed])))
        found = await certificates.findings(settings(tls_servers=" ".join([*places, closed])))
    assert [it.subject for it in found] == [*places, closed]
    assert "no answer over TLS within 0.2 s" in found[0].problem
    for it in found[1:]:
        assert it.problem.startswith("has no certificate: cannot connect over TLS: ")
    assert all(
        REGISTRY.get_sample_value("mdm_certificate_end_timestamp_seconds", {"place": it}) is None
        for it in [*places, closed]
    )


@pytest.mark.parametrize(("days", "problems"), [(364, ["its certificate ends in 364 days"]), (366, [])])
async def test_an_authority_of_packages_is_found_a_year_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, problems: list[str]
) -> None:
    monkeypatch.setattr(issuer, "AUTHORITY_VALID", timedelta(days=days, minutes=1))
    soon = issuer.ensure_authority(tmp_path / "soon").certificate.read_bytes()
    monkeypatch.setattr(issuer, "AUTHORITY_VALID", timedelta(days=3650))
    later = issuer.ensure_authority(tmp_path / "later").certificate.read_bytes()
    both = tmp_path / "ca.crt"
    both.write_bytes(later + soon)

    found = await certificates.findings(settings(device_ca_file=both))

    assert [it.problem.partition(",")[0] for it in found] == problems
    for it in found:
        assert it.subject.startswith("MDM_DEVICE_CA_FILE CN=device-mdm authority")
        assert it.remedy.startswith("add its successor to the file")


async def test_a_file_without_a_certificate_is_found(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none")
    (found,) = await certificates.findings(settings(device_ca_file=tmp_path / "ca.crt"))
    assert (found.subject, found.problem[:20]) == ("MDM_DEVICE_CA_FILE", "has no certificate: ")


def test_a_certificate_of_the_future_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = issued(tmp_path, monkeypatch, left=timedelta(days=100))
    check = certificates.CertificateCheck("x:1", x509.load_pem_x509_certificate(files.certificate.read_bytes()))
    found = check.finding(NOW)
    assert found is not None
    assert found.problem.startswith("its certificate is not valid before ")


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        ({}, []),
        ({"device_mqtt_tls": True}, ["broker:8883"]),
        ({"device_mqtt_tls": True, "device_mqtt_host": "::1"}, ["[::1]:8883"]),
        (
            {"keycloak_url": "https://auth.test/auth", "http_url": "https://[::1]:8444"},
            ["auth.test:443", "[::1]:8444"],
        ),
        ({"keycloak_url": "https://a.test", "keycloak_public_url": "https://a.test:443/"}, ["a.test:443"]),
        ({"device_mqtt_tls": True, "tls_servers": "inner:1 other:2"}, ["inner:1", "other:2"]),
    ],
)
def test_the_servers_are_those_that_devices_use(given: dict[str, object], servers: list[str]) -> None:
    assert certificates._servers(settings(**given)) == servers
