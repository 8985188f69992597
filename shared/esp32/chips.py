"""The chips that esptool knows, how their names are written, and the magic numbers of their application images.

Source: the targets of esptool (IMAGE_CHIP_ID, IROM_MAP and DROM_MAP of each), ESP-IDF's esp_image_header_t and
esp_app_desc_t, and for the names esptool's chip descriptions, Arduino's `ESP.getChipModel()` and the datasheets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

IMAGE_MAGIC: Final = 0xE9
DESCRIPTOR_MAGIC: Final = 0xABCD5432


@dataclass(frozen=True, slots=True)
class ChipKind:
    """A chip: the number that its images carry, and the addresses at which it maps data and code from flash."""

    name: str
    image_id: int
    flash_data: range
    flash_code: range

    def maps_flash_at(self, address: int) -> bool:
        """Return whether an address shows what is in flash, not RAM."""
        return address in self.flash_data or address in self.flash_code


_KINDS: Final = (
    ChipKind("esp32", 0, range(0x3F400000, 0x3F800000), range(0x400D0000, 0x40400000)),
    ChipKind("esp32s2", 2, range(0x3F000000, 0x3F3F0000), range(0x40080000, 0x40B80000)),
    ChipKind("esp32s3", 9, range(0x3C000000, 0x3E000000), range(0x42000000, 0x44000000)),
    ChipKind("esp32c2", 12, range(0x3C000000, 0x3C400000), range(0x42000000, 0x42400000)),
    ChipKind("esp32c3", 5, range(0x3C000000, 0x3C800000), range(0x42000000, 0x42800000)),
    ChipKind("esp32c5", 23, range(0x42000000, 0x44000000), range(0x42000000, 0x44000000)),
    ChipKind("esp32c6", 13, range(0x42800000, 0x43000000), range(0x42000000, 0x42800000)),
    ChipKind("esp32c61", 20, range(0x42800000, 0x43000000), range(0x42000000, 0x42800000)),
    ChipKind("esp32h2", 16, range(0x42800000, 0x43000000), range(0x42000000, 0x42800000)),
    ChipKind("esp32h21", 25, range(0x42000000, 0x43000000), range(0x42000000, 0x43000000)),
    ChipKind("esp32h4", 28, range(0x42000000, 0x44000000), range(0x42000000, 0x44000000)),
    ChipKind("esp32p4", 18, range(0x40000000, 0x4C000000), range(0x40000000, 0x4C000000)),
    ChipKind("esp32e22", 31, range(0x3C000000, 0x40000000), range(0x3C000000, 0x40000000)),
    ChipKind("esp32s31", 32, range(0x40000000, 0x54000000), range(0x40000000, 0x54000000)),
)
CHIPS: Final = {kind.image_id: kind for kind in _KINDS}
CHIP_IDS: Final = {kind.name: kind.image_id for kind in _KINDS}

# Decorations around a name: MicroPython's board before it; a package, a revision or the core of an SoC behind it.
_BOARD: Final = re.compile(r"^.*\bwith ")
_DECORATION: Final = re.compile(r"^unknown |\((?!beta).*|[ ,/](?:rev|v\d|az\b).*")
# Series and number as in ESP32-C61, then the letters of a package, a memory size or a module: C61HF4, S3-WROOM-1.
_SERIES: Final = re.compile(r"esp32-?([a-z]\d+)(?!-?beta)(?:$|[a-z-].*)")
# ESP32 without a series: its packages (D0WDQ6, S0WD, U4WDH, PICO-D4) and modules.
_FIRST_SERIES: Final = re.compile(
    r"esp(?:32)?-?(?:(?:d[02]|s0|u4)wd|pico|wroom-?(?:32|da)|wroom$|wrover|solo|mini).*"
)
# Names without 32 in them, of packages and modules.
_OTHER_NAMES: Final = {"esp8684": "esp32c2", "esp8685": "esp32c3", "esp8686": "esp32c3"}


def normalise(name: str) -> str | None:
    """Return our name of a chip however it is written, as `ESP32-D0WD-V3` or `ESP32-S3 (QFN56)`; else None."""
    plain = name.strip().lower().replace("_", "-")
    plain = _DECORATION.sub("", _BOARD.sub("", plain)).strip()
    if plain in CHIP_IDS:
        return plain
    if plain[:7] in _OTHER_NAMES:
        return _OTHER_NAMES[plain[:7]]
    if _FIRST_SERIES.fullmatch(plain):
        return "esp32"
    if found := _SERIES.fullmatch(plain):
        chip = f"esp32{found[1]}"
        return chip if chip in CHIP_IDS else None
    return None
