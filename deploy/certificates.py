"""A private certificate authority and the broker's server certificate, as PEM files in a folder."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

AUTHORITY_VALID = dt.timedelta(days=20 * 365)  # devices carry it in flash for as long as they live
SERVER_VALID = dt.timedelta(days=825)
RENEW_BEFORE = dt.timedelta(days=30)
CLOCK_SKEW = dt.timedelta(days=1)  # a device whose clock is a little behind must not refuse a new certificate


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The PEM files of one certificate."""

    certificate: Path
    key: Path


def ensure_authority(folder: Path) -> CertificateFiles:
    """Return the authority `ca.crt`, `ca.key` in `folder`; create it unless both files exist."""
    files = CertificateFiles(folder / "ca.crt", folder / "ca.key")
    if files.certificate.exists() and files.key.exists():
        return files
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"device-mdm authority {dt.datetime.now(dt.UTC):%Y-%m}")]
    )
    certificate = (
        _builder(name, key.public_key(), valid=AUTHORITY_VALID)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def ensure_server_certificate(folder: Path, hosts: Sequence[str]) -> CertificateFiles:
    """Return `server.crt`, `server.key` in `folder`, signed by its authority, for `hosts` (names or IPs).

    Existing files are kept while they cover all hosts, match each other and the authority, and do not expire soon.
    """
    authority = ensure_authority(folder)
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    files = CertificateFiles(folder / "server.crt", folder / "server.key")
    names = [_general_name(host) for host in hosts]
    if files.certificate.exists() and files.key.exists() and _still_good(files, names, issuer):
        return files
    issuer_key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{authority.key}: must be an EC key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    certificate = (
        _builder(subject, key.public_key(), valid=SERVER_VALID)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def _builder(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, valid: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _still_good(files: CertificateFiles, names: Iterable[x509.GeneralName], issuer: x509.Certificate) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        certificate.verify_directly_issued_by(issuer)
        covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, x509.ExtensionNotFound):
        return False
    soon = dt.datetime.now(dt.UTC) + RENEW_BEFORE
    fits = key.public_key() == certificate.public_key()
    return fits and set(names) <= set(covered) and certificate.not_valid_after_utc > soon


def _write(files: CertificateFiles, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.key.parent.mkdir(parents=True, exist_ok=True)
    # The key first and each by a rename: an interrupted run leaves no pair that does not match.
    for target, content, mode in (
        (files.key, private, 0o600),
        (files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        temporary = target.with_name(f".{target.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=mode)
        temporary.write_bytes(content)
        temporary.replace(target)
