"""The AsyncAPI document as YAML."""

from __future__ import annotations

from typing import Any, Final

import yaml

from tools.api import asyncapi

_WIDTH: Final = 110
_HEAD: Final = "# Generated from the code by `make docs`; a test fails when it is stale.\n"


class _Dumper(yaml.SafeDumper):
    """Writes repeated values in full: aliases are hard to read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - as PyYAML declares it
        return True


def text() -> str:
    """Return the text of docs/asyncapi.yaml."""
    document = yaml.dump(asyncapi.document(), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)
    return _HEAD + str(document)
