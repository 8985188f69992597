from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageRefusedError
from shared.protocol import admin

FIELDS: dict[str, Any] = {"request_id": "a" * 32, "upload_id": str(UUID(int=1)), "offset": 0}


@given(st.binary(max_size=200))
def test_a_piece_comes_out_as_it_went_in(data: bytes) -> None:
    chunk = admin.UploadChunk(**FIELDS, data=base64.b64encode(data))
    assert chunk.data == data
    topic = admin.UPLOAD_CHUNK.topic
    assert topic.decode(topic.encode(chunk)) == chunk


@pytest.mark.parametrize(
    "data",
    ["QUJD\n", "QU JD", "QUJD!", "QUI", "QUI==", "QUJD====", "QUJDRA==RA==", "QUJ=", "Q-_D", "QUJDRB==", "\u0414"],
)
def test_what_is_not_quite_base64_is_refused_and_never_repaired(data: str) -> None:
    topic = admin.UPLOAD_CHUNK.topic
    payload = topic.encode(admin.UploadChunk(**FIELDS, data=b"QUJD")).replace(b"QUJD", data.encode())
    if "\n" in data:
        payload = payload.replace(b"\n", rb"\n")
    with pytest.raises(MessageRefusedError, match=r"data: .*must be base64"):
        topic.decode(payload)
