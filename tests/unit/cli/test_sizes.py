import pytest

from cli import sizes
from shared.errors import InvalidInputError
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1572864", 1572864),
        ("0x180000", 1572864),
        ("0X180000", 1572864),
        ("1.5M", 1572864),
        ("1.5 MiB", 1572864),
        ("1536k", 1572864),
        ("1536KB", 1572864),
    ],
)
def test_a_size_is_written_as_in_partition_tables(text: str, size_bytes: int) -> None:
    assert sizes.in_bytes(text, field="size") == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5", "0x", "1G", "1e6", "٣", "0.3M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"size: must be a whole number of bytes, such as 1572864, 0x180000"
    ):
        sizes.in_bytes(text, field="size")


def test_a_model_takes_sizes_and_chips_as_datasheets_write_them(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.model.add"] = fakes.model()
    assert mdm("model", "add", "lamp", "--chip", "ESP32-S3", "--slot-size", "1.5M").exit_code == 0
    ((_, request),) = fake.requests
    assert (request.chip, request.slot_size_bytes) == ("esp32s3", 1572864)  # type: ignore[attr-defined]
    refused = mdm("model", "add", "lamp", "--chip", "esp32", "--slot-size", "big")
    assert refused.stderr.startswith("error: --slot-size: must be a whole number of bytes")
