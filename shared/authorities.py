"""Certificates of authorities that devices trust, as PEM (RFC 7468)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from shared.errors import InvalidInputError


def read(pem: str, *, field: str) -> list[x509.Certificate]:
    """Return the certificates in a PEM text, each once, or raise InvalidInputError naming `field`."""
    try:
        return list(dict.fromkeys(x509.load_pem_x509_certificates(pem.encode())))
    except ValueError as error:
        raise InvalidInputError(f"{field}: must be certificates in PEM: {error}") from None


def normalized(certificates: Sequence[x509.Certificate]) -> str:
    """Return the certificates as PEM, without comments: the same text for the same certificates."""
    return "".join(it.public_bytes(Encoding.PEM).decode() for it in certificates)


def refuse_unusable(certificates: Sequence[x509.Certificate], *, now: datetime, field: str) -> None:
    """Raise InvalidInputError for a certificate that has ended at `now` (UTC), or is no authority's."""
    for it in certificates:
        name = subject(it)
        if it.not_valid_after_utc < now:
            raise InvalidInputError(f"{field}: {name} ended on {it.not_valid_after_utc:%Y-%m-%d}")
        if not _is_authority(it):
            raise InvalidInputError(
                f"{field}: {name} must be an authority's certificate, not a server's (basic constraints, RFC 5280)"
            )


def subject(certificate: x509.Certificate) -> str:
    """Return the subject's name (RFC 4514)."""
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate, in hexadecimal."""
    return certificate.fingerprint(SHA256()).hex()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        # A self-signed one of old tools, as `openssl req -x509` of version 1.0 without a configuration.
        return certificate.subject == certificate.issuer
