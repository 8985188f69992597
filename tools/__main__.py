"""Regenerates all generated files: `python -m tools`, or `make docs`."""

from __future__ import annotations

import sys

from tools.files import FILES

for file, text in FILES.items():
    file.write_text(text(), encoding="utf-8")
    sys.stderr.write(f"written: {file}\n")
