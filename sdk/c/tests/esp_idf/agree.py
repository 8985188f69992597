"""Compile the port for ESP-IDF, its examples and its declarations for tests against the headers of ESP-IDF itself.

    python agree.py FOLDER --gcc riscv64-unknown-elf-gcc --libc /usr/include/newlib [--target esp32c3]

FOLDER is a checkout of ESP-IDF 5.5 or 6.0 with its submodule mbedtls (of 6.0 with tf-psa-crypto in it). Nothing is
linked, so any GCC for the chip's family will do, and the headers of newlib for 5.5, of picolibc for 6.0: Debian's
libnewlib-dev and picolibc-riscv64-unknown-elf have them. The configuration is made of the checkout's Kconfig and
ours by `kconfgen`, of PyPI's esp-idf-kconfig. With ESP-IDF's own tools, `idf.py build` in an example shows more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
OUTSIDE: Final = {"bt", "openthread", "unity", "cmock", "linux", "esp_tee", "xtensa"}
SETTINGS: Final = (
    "CONFIG_ESP_COREDUMP_ENABLE_TO_FLASH=y\n"
    # Espressif's additions to mbedtls are in its fork; with these off, any mbedtls of the same version will do.
    + "".join(f"CONFIG_MBEDTLS_HARDWARE_{part}=n\n" for part in ("AES", "SHA", "MPI", "GCM", "ECC", "ECDSA_SIGN"))
)
LIMITS: Final = """#pragma once
#define CHAR_BIT 8
#define UCHAR_MAX 255
#define SHRT_MAX 32767
#define INT_MAX __INT_MAX__
#define INT_MIN (-INT_MAX - 1)
#define UINT_MAX (2U * INT_MAX + 1)
#define LONG_MAX __LONG_MAX__
#define ULONG_MAX (2UL * LONG_MAX + 1)
#define LLONG_MAX __LONG_LONG_MAX__
#define ULLONG_MAX (2ULL * LLONG_MAX + 1)
#define PATH_MAX 1024
"""


def components(idf: Path) -> list[Path]:
    """Return the folders of the components that are looked at."""
    return [it for it in sorted((idf / "components").iterdir()) if it.is_dir() and it.name not in OUTSIDE]


def configure(idf: Path, target: str, folder: Path) -> None:
    """Write sdkconfig.h into the folder."""
    every = sorted(it for it in (idf / "components").iterdir() if it.is_dir())
    sources = {
        "COMPONENT_KCONFIGS_SOURCE_FILE": [it / "Kconfig" for it in every] + [ROOT / "Kconfig"],
        "COMPONENT_KCONFIGS_PROJBUILD_SOURCE_FILE": [it / "Kconfig.projbuild" for it in every],
        "COMPONENT_KCONFIGS_EXCLUDED_SOURCE_FILE": [],
        "COMPONENT_KCONFIGS_PROJBUILD_EXCLUDED_SOURCE_FILE": [],
    }
    names = {
        "IDF_TARGET": target,
        "IDF_PATH": str(idf),
        "IDF_TOOLCHAIN": "gcc",
        "IDF_ENV_FPGA": "",
        "IDF_CMAKE": "y",
    }
    names |= {"IDF_MINIMAL_BUILD": "n", "IDF_VERSION": "0", "IDF_INIT_VERSION": "0"}
    for number, (name, files) in enumerate(sources.items()):
        listed = folder / f"sources{number}"
        listed.write_text("".join(f'source "{file}"\n' for file in files if file.exists()))
        names[name] = str(listed)
    (folder / "sdkconfig").write_text(SETTINGS)
    command = [sys.executable, "-m", "kconfgen", "--kconfig", idf / "Kconfig", "--config", folder / "sdkconfig"]
    command += ["--output", "header", folder / "sdkconfig.h"]
    for name, value in names.items():
        command += ["--env", f"{name}={value}"]
    subprocess.run(command, env=names, check=True, capture_output=True)


def includes(idf: Path, target: str) -> list[Path]:
    """Return the folders with headers: those that hold some and are named as such, and what they are below."""
    parts = (
        "include",
        "platform_include",
        "interface",
        f"include/{target}",
        f"{target}/include",
        f"{target}/register",
    )
    parts += (
        "include/port/riscv",
        "riscv/include",
        "port/include",
        f"port/{target}/include",
        "port/esp32xx/include",
    )
    parts += ("config/include", "config/riscv/include", "config/include/freertos", "esp_additions/include")
    parts += ("FreeRTOS-Kernel/include", "FreeRTOS-Kernel/portable/riscv/include", "platform_port/include")
    parts += ("FreeRTOS-Kernel/portable/riscv/include/freertos", "esp_crt_bundle/include", "mbedtls/include")
    parts += ("mbedtls/tf-psa-crypto/include", "mbedtls/tf-psa-crypto/drivers/builtin/include", "dma/include")
    parts += ("ldo/include", "etm/include", "deprecated_include", "mbedtls/library")
    found = [folder / part for folder in components(idf) for part in parts if (folder / part).is_dir()]
    return [*found, idf / "components/esp-tls"]


def fit(libc: Path, folder: Path) -> None:
    """Write what differs between a libc for no board and that of ESP-IDF's tools."""
    (folder / "sys").mkdir()
    (folder / "limits.h").write_text(LIMITS)
    for name, found, instead in (
        ("reent.h", r"\*const _global", "* _global"),
        ("select.h", r"\bfds_bits", "__fds_bits"),
    ):
        header = libc / "sys" / name
        if header.exists():
            (folder / "sys" / name).write_text(re.sub(found, instead, header.read_text()))


def agreement(folder: Path) -> Path:
    """Write a source that declares everything again behind the real headers: what differs is refused."""
    sources = [*ROOT.glob("port/esp_idf/**/*.[ch]"), *ROOT.glob("examples/*/main/*.c")]
    names = {
        name for it in sources for name in re.findall(r"#include <((?:esp_|nvs|freertos).+)>", it.read_text())
    }
    first = ["freertos/FreeRTOS.h"]
    lines = [f"#include <{name}>" for name in first + sorted(names - set(first))]
    lines += ["#define MDM_TYPES_ARE_REAL", f'#include "{Path(__file__).with_name("declared.h")}"']
    source = folder / "agreement.c"
    source.write_text("\n".join(lines) + "\n")
    return source


def main() -> None:
    """Print `ok` or `BAD` for each source; the status is 1 if one is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("idf", type=Path)
    parser.add_argument("--gcc", default="riscv64-unknown-elf-gcc")
    parser.add_argument("--libc", type=Path, required=True)
    parser.add_argument("--target", default="esp32c3")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configure(options.idf, options.target, folder)
        fit(options.libc, folder)
        flags = [
            "-march=rv32imc",
            "-mabi=ilp32",
            "-fsyntax-only",
            "-fno-lto",
            "-fno-use-linker-plugin",
            "-std=gnu17",
        ]
        flags += ["-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-DESP_PLATFORM", '-DIDF_VER="0"', f"-I{folder}"]
        flags += [
            '-DMBEDTLS_CONFIG_FILE="mbedtls/esp_config.h"',
            "-include",
            "sys/types.h",
            "-include",
            "sdkconfig.h",
        ]
        flags += [
            f"-I{ROOT / it}"
            for it in ("port/esp_idf/include", "port/esp_idf", "port/mqtt", "port/psa", "include", "src")
        ]
        for folder_of_headers in [folder, *includes(options.idf, options.target), options.libc]:
            flags += ["-isystem", str(folder_of_headers)]
        ours = [
            it
            for part in ("port/esp_idf", "port/mqtt", "port/psa", "src")
            for it in sorted((ROOT / part).glob("*.c"))
        ]
        for source in [*ours, *sorted(ROOT.glob("examples/*/main/*.c")), agreement(folder)]:
            made = subprocess.run([options.gcc, *flags, source], capture_output=True, text=True, check=False)
            verdict = "ok " if made.returncode == 0 else "BAD"
            sys.stdout.write(f"{verdict} {source.name} {made.stderr[:2000]}\n")
            bad += made.returncode != 0
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
