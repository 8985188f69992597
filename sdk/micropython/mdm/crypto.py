"""The cryptography of the protocol in pure MicroPython, which itself has only SHA-256 and AES.

HMAC (RFC 2104), HKDF (RFC 5869), X25519 (RFC 7748), AES-256-GCM (NIST SP 800-38D) and compact JWE (RFC 7516).
Nothing here runs in constant time: who can measure the device to the microsecond may learn its key.
"""

import hashlib
import json
from binascii import a2b_base64, b2a_base64, hexlify

_P = (1 << 255) - 19
_BASE = b"\x09" + bytes(31)
_ECB = 1
_BLOCK = 16
_GHASH_R = 0xE1 << 120
_KDF = b"\0\0\0\x07A256GCM\0\0\0\0\0\0\0\0\0\0\x01\0"


def b64url(data):
    """Return bytes as base64url without padding."""
    return b2a_base64(data).decode().strip().replace("+", "-").replace("/", "_").rstrip("=")


def from_b64url(text):
    """Return the bytes in base64url without padding; raise ValueError."""
    return a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


def sha256(*parts):
    """Return the SHA-256 of the parts, one after the other."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.digest()


def hmac(key, message):
    """Return the HMAC-SHA256 of a message, 32 bytes."""
    key = sha256(key) if len(key) > 64 else key
    key = key + bytes(64 - len(key))
    return sha256(bytes(it ^ 0x5C for it in key), sha256(bytes(it ^ 0x36 for it in key), message))


def proof(secret, message):
    """Return the hexadecimal HMAC of a message; the key is the characters of the secret."""
    return hexlify(hmac(secret.encode(), message.encode())).decode()


def x25519(private, public):
    """Return the shared secret, 32 bytes; raise ValueError for a public key of low order."""
    scalar = int.from_bytes(private, "little") & ~7 & ((1 << 255) - 1) | 1 << 254
    x1 = int.from_bytes(public, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swapped = 1, 0, x1, 1, 0
    for at in range(254, -1, -1):
        bit = scalar >> at & 1
        if bit != swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a % _P, c * b % _P
        x3, z3 = (da + cb) ** 2 % _P, x1 * ((da - cb) ** 2 % _P) % _P
        aa, bb = a * a % _P, b * b % _P
        e = aa - bb
        x2, z2 = aa * bb % _P, e * (aa + 121665 * e) % _P
    if swapped:
        x2, z2 = x3, z3
    shared = x2 * pow(z2, _P - 2, _P) % _P
    if not shared:
        raise ValueError("public key: is of low order")
    return shared.to_bytes(32, "little")


def public_half(private):
    """Return the public key of a private one, 32 bytes each."""
    return x25519(private, _BASE)


def recovery_mac(private, server_key, message):
    """Return the hexadecimal MAC of a request for the secret in force."""
    extracted = hmac(bytes(32), x25519(private, from_b64url(server_key)))
    return hexlify(hmac(hmac(extracted, b"mdm/v1/recover\x01"), message.encode())).decode()


def _multiply(x, y):
    """Return the product in GF(2^128), whose first bit is the highest."""
    product = 0
    for at in range(127, -1, -1):
        if x >> at & 1:
            product ^= y
        y = y >> 1 ^ _GHASH_R if y & 1 else y >> 1
    return product


def _gcm_open(key, iv, sealed, tag, header):
    """Return the plaintext; raise ValueError if the tag, 16 bytes, is not that of sealed text and header."""
    from cryptolib import aes

    encrypt = aes(key, _ECB).encrypt
    subkey = int.from_bytes(encrypt(bytes(_BLOCK)), "big")
    hashed = 0
    lengths = (len(header) * 8).to_bytes(8, "big") + (len(sealed) * 8).to_bytes(8, "big")
    for data in (header, sealed, lengths):
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            block = block + bytes(_BLOCK - len(block))
            hashed = _multiply(hashed ^ int.from_bytes(block, "big"), subkey)
    hashed ^= int.from_bytes(encrypt(iv + b"\0\0\0\x01"), "big")
    if len(tag) != _BLOCK or hashed.to_bytes(_BLOCK, "big") != tag:
        raise ValueError("jwe: is not sealed for this key")
    opened = bytearray(sealed)
    for at in range(0, len(sealed), _BLOCK):
        pad = encrypt(iv + (at // _BLOCK + 2).to_bytes(4, "big"))
        for i in range(at, min(at + _BLOCK, len(sealed))):
            opened[i] ^= pad[i - at]
    return bytes(opened)


def open_jwe(jwe, private):
    """Return the text in a compact JWE (ECDH-ES, A256GCM) for this private key; raise ValueError."""
    try:
        header, wrapped, iv, sealed, tag = jwe.split(".")
        facts = json.loads(from_b64url(header))
        known = (facts["alg"], facts["enc"], facts["epk"]["crv"], wrapped) == ("ECDH-ES", "A256GCM", "X25519", "")
        sender = from_b64url(facts["epk"]["x"])
        iv = from_b64url(iv)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("jwe: has no key of its sender")
    if not known or len(sender) != 32 or len(iv) != 12:
        raise ValueError("jwe: must be ECDH-ES with A256GCM on X25519")
    key = sha256(b"\0\0\0\x01", x25519(private, sender), _KDF)
    return _gcm_open(key, iv, from_b64url(sealed), from_b64url(tag), header.encode()).decode()
