"""Runs a program with the settings in a file: `python -m deploy.homelab.run [--keep-user] PROGRAM ARGUMENTS...`.

Variables in the environment take precedence over the file. As root it first switches to the owner of its folder,
so that the files that `mdm` writes belong to the caller; not with `--keep-user`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

SETTINGS: Final = Path("/run/mdm/environment")


def settings(text: str) -> dict[str, str]:
    """Return the values in lines of NAME=VALUE."""
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def main() -> None:
    """Replace this process by the program."""
    environment = {**settings(SETTINGS.read_text()), **os.environ}
    words = sys.argv[1:]
    keep_user = words[0] == "--keep-user"
    if keep_user:
        del words[0]
    elif os.getuid() == 0:
        owner = Path.cwd().stat()
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    os.execvpe(words[0], words, environment)  # noqa: S606 - the program is compose.yaml's


if __name__ == "__main__":
    main()
