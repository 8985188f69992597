"""Narrates the demo: runs `mdm`, waits until the result is observed, and prints it as one line."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.event_recorder import EventRecorder, Named
from shared.protocol.messages import Event

MDM = Path(sys.executable).with_name("mdm")


class StoryError(Exception):
    """The result of a step was not observed."""


@dataclass
class Narrator:
    """Narrates the demo of one device; `print_line` prints its lines."""

    profile: Path
    print_line: Callable[[str], None]
    witness: EventRecorder
    client_id: str = ""
    _since: float = field(default_factory=time.monotonic)

    def chapter(self, title: str) -> None:
        """Start a part of the demo."""
        self.print_line(f"\n{title}")

    def done(self, text: str) -> None:
        """Print an observed result, with the time since the previous line."""
        now = time.monotonic()
        self.print_line(f"  ✓ {text:<72} {now - self._since:5.1f} s")
        self._since = now

    def check(self, fact: object, text: str) -> None:
        """Print a fact if it holds, else end the demo."""
        if not fact:
            raise StoryError(f"expected: {text}")
        self.done(text)

    async def mdm(self, *arguments: object) -> Any:  # noqa: ANN401 - the command's JSON
        """Run `mdm` and return its JSON output; end the demo if it fails."""
        words = [str(argument) for argument in arguments]
        self.print_line(f"  $ mdm {shlex.join(words)}")
        process = await asyncio.create_subprocess_exec(
            *(str(MDM), "--json", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "MDM_PROFILE": str(self.profile)},
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise StoryError(f"mdm {shlex.join(words)}: {errors.decode().strip()}")
        return json.loads(output)

    async def seen(self, event: Named, **data: object) -> Event:
        """Wait for an event of the device, or end the demo."""
        return await self.witness.seen(self.client_id, event, **data)
