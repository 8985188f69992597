from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from shared.database import device_refs
from shared.errors import NotFoundError

CODES = st.from_regex(r"[a-z0-9_]{1,50}", fullmatch=True)
KEYS = st.from_regex(r"[a-z0-9]{8}", fullmatch=True)


def condition(name: str) -> dict[str, str]:
    """What a name asks of each column."""
    compiled = device_refs.named(name).compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        compile_kwargs={"literal_binds": True},
    )
    return dict(re.findall(r"(\w+\.\w+) = '(\w+)'", str(compiled)))


@given(code=CODES, key=KEYS)
def test_a_client_id_stands_for_the_model_and_the_key_it_is_made_of(code: str, key: str) -> None:
    client_id = device_refs.client_id(code, key)

    assert client_id == f"iotdevice-{code}-{key}"
    assert condition(client_id) == {"devices.key": key, "device_models.code": code}


@given(key=KEYS)
def test_a_key_stands_for_the_device_of_any_model(key: str) -> None:
    assert condition(key) == {"devices.key": key}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "abcdefg",
        "abcdefghi",
        "ABCDEFGH",
        "abcdefgh\n",
        "\nabcdefgh",
        "iotdevice--abcdefgh",
        "iotdevice-abcdefgh",
        "iotdevice-a-b-abcdefgh",
        "iotdevice-A-abcdefgh",
        f"iotdevice-{'a' * 51}-abcdefgh",
        "iotdevice-a-abcdefg",
        "iotdevice-a-abcdefgh\n",
        "otherdevice-a-abcdefgh",
        "a-abcdefgh",
        "'; DROP",
        "١٢٣٤٥٦٧٨",
    ],
)
def test_a_name_that_no_device_can_have_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        device_refs.named(name)
    assert caught.value.message == f"there is no device {name}"
    assert caught.value.details == {"device": name}


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("iotdevice-lamp-abcdefgh", True),
        ("abcdefgh", False),
        ("iotdevice-abcdefgh", False),
        ("mdm-registry", False),
    ],
)
def test_a_key_alone_is_no_client_id(name: str, *, holds: bool) -> None:
    assert device_refs.is_client_id(name) == holds
