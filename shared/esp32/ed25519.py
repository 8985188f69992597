"""Sizes of Ed25519 (RFC 8032, 5.1), for modules that need nothing else of it."""

from __future__ import annotations

from typing import Final

SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 32
