"""All generated files, and the generator of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tools import cli_reference, marked, rotation_steps, settings_table, tree, typescript, vectors
from tools.api import page, specification
from tools.traces import text as traces

_ROOT: Final = Path(__file__).parents[1]
_DOCS: Final = _ROOT / "docs"
ROTATION: Final = _DOCS / "rotation.md"
_SETTINGS: Final = _DOCS / "settings.md"
_MARKS: Final = ("<!-- made by `make docs`, do not edit -->\n", "<!-- end -->\n")
FILES: Final[dict[Path, Callable[[], str]]] = {
    _DOCS / "asyncapi.yaml": specification.text,
    _DOCS / "api.md": page.page,
    _DOCS / "cli.md": cli_reference.text,
    _DOCS / "map.md": tree.text,
    ROTATION: partial(marked.renewed, ROTATION, "```mermaid\n", "```\n", rotation_steps.diagram),
    _SETTINGS: partial(marked.renewed, _SETTINGS, *_MARKS, settings_table.table),
    **{_DOCS / "vectors" / name: partial(vectors.text, make) for name, make in vectors.FILES.items()},
    _DOCS / "vectors" / "traces.json": traces.text,
    _ROOT / "web/src/protocol.ts": typescript.render,
}
