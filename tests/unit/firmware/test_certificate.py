from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import uvicorn

from deploy import certificates
from services.firmware.http.tls_reload import Certificate


def config(folder: Path) -> uvicorn.Config:
    files = certificates.ensure_server_certificate(folder, ["localhost"])
    made = uvicorn.Config("no:app", ssl_certfile=files.certificate, ssl_keyfile=files.key)
    made.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.ssl.load_cert_chain(files.certificate, files.key)
    return made


def seen(served: uvicorn.Config) -> bytes:
    """Return the certificate that a new connection sees."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    assert served.ssl is not None
    server = served.ssl.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_a_new_pair_counts_for_new_connections(tmp_path: Path) -> None:
    served = config(tmp_path)
    certificate, before = Certificate(served), seen(served)
    certificate.renew()
    assert seen(served) == before
    (tmp_path / "server.crt").unlink()
    certificates.ensure_server_certificate(tmp_path, ["localhost"])
    certificate.renew()
    assert seen(served) != before


def test_half_of_a_new_pair_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    served = config(tmp_path / "old")
    certificate, before = Certificate(served), seen(served)
    new = certificates.ensure_server_certificate(tmp_path / "new", ["localhost"])
    (tmp_path / "old/server.key").write_bytes(new.key.read_bytes())
    with pytest.raises(ssl.SSLError):
        certificate.renew()
    assert seen(served) == before
    (tmp_path / "old/server.crt").write_bytes(new.certificate.read_bytes())
    certificate.renew()
    assert seen(served) != before
