"""Which documents are made of the API, and of what."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from tools.api import asyncapi
from tools.api.page import page

_FOLDER: Final = Path(__file__).parents[2] / "docs"
_WIDTH: Final = 110


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice twice: an alias is hard to read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - as PyYAML declares it
        return True


def specification() -> str:
    """Return the AsyncAPI document as YAML."""
    head = "# Made from the code by `make asyncapi`; a test fails when it is stale.\n"
    text = yaml.dump(asyncapi.document(), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)
    return head + str(text)


FILES: Final = {_FOLDER / "asyncapi.yaml": specification, _FOLDER / "api.md": page}
