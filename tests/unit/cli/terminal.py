"""The tool on a terminal of its own: a pty of a given width, in a new process."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "TERM": "xterm",
    "MDM_HOST": "127.0.0.1",
    "MDM_PORT": "1",
    "MDM_ACCOUNT": "a",
    "MDM_PASSWORD": "b",
    "XDG_CONFIG_HOME": "/nonexistent",
}


class Terminal:
    """A process on a pty; entering it starts the process."""

    def __init__(self, words: Sequence[str], *, columns: int = 80) -> None:
        self._words = words
        self._columns = columns
        self._interrupted = False

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, self._columns, 0, 0))
        self.process = subprocess.Popen(
            self._words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def interrupt(self) -> None:
        """Do what Ctrl-C does, and again each second that nothing happens, as a person does.

        Python misses one that comes after a question is printed and before it begins to read.
        """
        self._interrupted = True
        self.process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def until(self, text: str) -> str:
        """Read until this is on the screen, or the process has ended."""
        shown = b""
        with suppress(OSError):  # EIO: the process has closed the terminal
            while text.encode() not in shown and (piece := self._read()):
                shown += piece
        return _STYLE.sub("", shown.decode()).replace("\r\n", "\n")

    def _read(self) -> bytes:
        while not select.select([self._master], [], [], 1)[0]:
            if self._interrupted:
                self.process.send_signal(signal.SIGINT)
        return os.read(self._master, 65536)

    def rest(self) -> str:
        """Read until the process has ended."""
        shown = self.until("\0")
        self.process.wait(timeout=30)
        return shown


def mdm(*words: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command line of the tool, with options of Python."""
    return [
        sys.executable,
        *options,
        "-c",
        "import sys; sys.argv[0] = 'mdm'; from cli.main import main; main()",
        *words,
    ]
