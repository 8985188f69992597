"""Bytes in JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import EncodedBytes, EncoderProtocol


class StrictBase64(EncoderProtocol):
    """Base64 as in RFC 4648; pydantic's own drops every character outside of the alphabet."""

    @classmethod
    def decode(cls, data: bytes) -> bytes:
        """Return the bytes, or raise ValueError."""
        try:
            decoded = base64.b64decode(data, validate=True)
        except binascii.Error:
            decoded = None
        if decoded is None or base64.b64encode(decoded) != data:
            raise ValueError("must be base64 with its padding and nothing else")
        return decoded

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """Return it as base64."""
        return base64.b64encode(value)

    @classmethod
    def get_json_format(cls) -> str:
        """Return the name of the format in a JSON Schema."""
        return "base64"


Base64 = Annotated[bytes, EncodedBytes(encoder=StrictBase64)]
