"""The file of the histories."""

from __future__ import annotations

import json
from typing import Final

from tools.traces import profiles, secrets
from tools.traces.board import Step

HISTORIES: Final = 12
_WHAT: Final = (
    "histories of a device: after each step it is logged in and has sent up/config/get. Events of profiles: start "
    "(with a package: of another one), answer (to its own up/config/get), trial over (after a minute), offline "
    "(an hour without a connection), silent (a day of connections without an answer), count (ten seconds after a "
    "start), offer (on down/connection). Events of secrets: start, and topics below down/; `sealed` is to be "
    "sealed for the device's key as `jwe`, `refuses` are generations that the broker refuses at the login that "
    "follows, and 61 seconds pass at the end of each step"
)


def text() -> str:
    """Return the histories as the text of their file, a line for each step."""
    kinds = [
        f'  "{name}": [\n' + ",\n".join(map(_lines, map(history, range(HISTORIES)))) + "\n  ]"
        for name, history in (("profiles", profiles.history), ("secrets", secrets.history))
    ]
    return f'{{\n  "what": {json.dumps(_WHAT)},\n' + ",\n".join(kinds) + "\n}\n"


def _lines(steps: list[Step]) -> str:
    return "    [\n" + ",\n".join(f"      {json.dumps(step)}" for step in steps) + "\n    ]"
