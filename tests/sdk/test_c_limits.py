"""What the core in C takes of a board: flash, memory and stack, by the compiler of boards with RISC-V (ESP32-C3).

The compiler is installed by `scripts/bootstrap sdk`; without it these tests are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.sdk.c_device import SOURCES

CORE_BYTES: Final = 35 * 1024
CODEC_BYTES: Final = 2 * 1024
STATE_BYTES: Final = 3 * 1024 + 88
STACK_BYTES: Final = 864
PREFIX: Final = "riscv64-unknown-elf-"
FLAGS: Final = (
    *("-march=rv32imc", "-mabi=ilp32", "-std=c99", "-Os", "-ffreestanding", "-fbuiltin", "-Werror"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-fstack-usage", "-fcallgraph-info=su"),
    *("-Iinclude", "-Itests/freestanding"),
)
# Calls through a pointer: from which file, to which functions. All others go to the port.
POINTERS: Final = {
    "messages": r"mdm_on_(config$|key|offer|secret|switch|rotated|cancelled|connection|firmware|command$)"
    r"|mdm_on_(dump|recover|claim)_",
    "uplink": r"mdm_sa(y|id)_|sa(y|id)_(status|vitals)",
    "work": r"mdm_put_(identity|config|places|journal|image|progress)$",
    "json": r"take_offset",
}


def compiler() -> Path | None:
    """Return the folder of the compiler's programs, or None."""
    cache = Path(os.environ.get("MDM_CACHE") or Path.home() / ".cache/device-mdm")
    own = cache / "riscv/usr/bin"
    if (own / f"{PREFIX}gcc").exists():
        return own
    found = shutil.which(f"{PREFIX}gcc")
    return None if found is None else Path(found).parent


@dataclass
class Compiled:
    """The object files, and each function's frame in bytes and callees."""

    folder: Path
    programs: Path
    frames: dict[str, int] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def run(self, program: str, *arguments: str | Path) -> str:
        command = [self.programs / f"{PREFIX}{program}", *arguments]
        return subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=True).stdout

    def flash(self, names: Iterable[str]) -> int:
        """Return the bytes of code and constants in the object files of these sources."""
        lines = self.run("size", *(self.folder / f"{name}.o" for name in names)).splitlines()[1:]
        return sum(int(line.split()[0]) + int(line.split()[1]) for line in lines)

    def read_calls(self, file: Path) -> None:
        """Read what GCC says of the calls in a file (-fcallgraph-info, in the format VCG)."""
        text = file.read_text()
        for title, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes', text):
            self.frames[title.rpartition(":")[2]] = int(size)
        for source, target in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
            self.calls[source.rpartition(":")[2]].add(
                f"*{file.stem}" if target == "__indirect_call" else target.rpartition(":")[2]
            )

    def deepest(self, name: str, above: tuple[str, ...] = ()) -> tuple[int, tuple[str, ...]]:
        """Return the bytes of stack below a call, and by which functions; a recursion is an error."""
        assert name not in above, f"recursion: {[*above, name]}"
        below: list[tuple[int, tuple[str, ...]]] = [(0, ())]
        for called in self.calls[name]:
            pattern = POINTERS.get(called[1:]) if called.startswith("*") else None
            targets = [it for it in self.frames if pattern and re.match(pattern, it)] or [called]
            below += [self.deepest(it, (*above, name)) for it in targets if it in self.frames]
        size, path = max(below)
        return size + self.frames[name], (name, *path)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    programs = compiler()
    if programs is None:
        pytest.skip("there is no compiler for rv32imc: scripts/bootstrap sdk")
    made = Compiled(tmp_path_factory.mktemp("rv32"), programs)
    for source in sorted(SOURCES.glob("src/*.c")):
        made.run("gcc", *FLAGS, "-c", source, "-o", made.folder / f"{source.stem}.o")
    for calls in made.folder.glob("*.ci"):
        made.read_calls(calls)
    return made


def test_it_fits_the_flash(compiled: Compiled) -> None:
    core = {source.stem for source in SOURCES.glob("src/*.c")} - {"mqtt"}
    assert compiled.flash(core) <= CORE_BYTES
    assert compiled.flash(["mqtt"]) <= CODEC_BYTES


def test_it_has_no_memory_of_its_own_and_asks_for_little(compiled: Compiled) -> None:
    undefined = compiled.run("nm", "-u", *compiled.folder.glob("*.o"))
    outside = set(re.findall(r"U (\w+)", undefined)) - set(compiled.frames)
    library = {
        "memcpy",
        "memmove",
        "memset",
        "memchr",
        "memcmp",
        "strcmp",
        "strlen",
        "strchr",
        "strpbrk",
    }
    assert {name for name in outside if not name.startswith("__")} <= library
    for line in compiled.run("size", *compiled.folder.glob("*.o")).splitlines()[1:]:
        assert line.split()[1:3] == ["0", "0"], line
    size = compiled.folder / "size.c"
    size.write_text('#include "mdm.h"\nchar state[sizeof(struct mdm)];\n')
    compiled.run("gcc", *FLAGS[:4], "-ffreestanding", "-Iinclude", "-c", size, "-o", size.with_suffix(".o"))
    (found,) = re.findall(r"^\w+ (\w+) \w state$", compiled.run("nm", "-S", size.with_suffix(".o")), re.MULTILINE)
    assert int(found, 16) <= STATE_BYTES


def test_it_calls_nothing_in_circles_and_its_stack_is_bounded(compiled: Compiled) -> None:
    api = [
        name
        for name in re.findall(r"\b(mdm_\w+)\(", (SOURCES / "include/mdm.h").read_text())
        if name in compiled.frames
    ]
    assert len(api) > 10
    deepest = max(compiled.deepest(name) for name in api)
    assert deepest[0] <= STACK_BYTES, deepest
