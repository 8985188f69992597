"""JSON documents whose keys stay in the order in which their owner wrote them, which JSONB loses."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.types import TypeDecorator


class OrderedJson(TypeDecorator[dict[str, Any]]):
    """A column of the type JSON; None is NULL. Another order of keys is a change."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def compare_values(self, x: object, y: object) -> bool:
        """Return whether two documents are the same text."""
        return json.dumps(x) == json.dumps(y)
