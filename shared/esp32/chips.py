"""Constants of ESP32 application images: ESP-IDF's esp_image_header_t and esp_app_desc_t, little-endian."""

from __future__ import annotations

from typing import Final

IMAGE_MAGIC: Final = 0xE9
DESCRIPTOR_MAGIC: Final = 0xABCD5432
CHIP_IDS: Final = {
    "esp32": 0,
    "esp32s2": 2,
    "esp32c3": 5,
    "esp32s3": 9,
    "esp32c2": 12,
    "esp32c6": 13,
    "esp32h2": 16,
    "esp32p4": 18,
}
CHIPS: Final = {chip_id: chip for chip, chip_id in CHIP_IDS.items()}


def chip_of(name: str) -> str | None:
    """Return the chip that a ROM, a board's library or a datasheet names, or None if it is not known."""
    text = "".join(character for character in name.lower() if character.isalnum())
    return max((chip for chip in CHIP_IDS if text.startswith(chip)), key=len, default=None)
