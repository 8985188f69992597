"""Writes docs/asyncapi.yaml and docs/api.md: `python -m tools.api`, or `make asyncapi`."""

from __future__ import annotations

from tools.api.documents import FILES

for file, text in FILES.items():
    file.write_text(text(), encoding="utf-8")
