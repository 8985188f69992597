"""Tells a story: runs `mdm` as a person would, waits until a thing is seen to happen, and says so in a line."""

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
    """A step was not seen to happen."""


@dataclass
class Narrator:
    """The one who tells of one device; `say` takes each line."""

    profile: Path
    say: Callable[[str], None]
    witness: EventRecorder
    client_id: str = ""
    _since: float = field(default_factory=time.monotonic)

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self.say(f"\n{title}")

    def done(self, text: str) -> None:
        """Say what has been seen, and how long it took since the line before."""
        now = time.monotonic()
        self.say(f"  ✓ {text:<72} {now - self._since:5.1f} s")
        self._since = now

    def check(self, fact: object, text: str) -> None:
        """Say that a fact is so, or end the story."""
        if not fact:
            raise StoryError(f"expected: {text}")
        self.done(text)

    async def mdm(self, *arguments: object) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run the tool and return what it answers; end the story if it fails."""
        words = [str(argument) for argument in arguments]
        self.say(f"  $ mdm {shlex.join(words)}")
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
        """Wait for an event of the device, or end the story."""
        return await self.witness.seen(self.client_id, event, **data)
