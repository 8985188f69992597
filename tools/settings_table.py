"""The table in docs/settings.md, generated from the declared settings."""

from __future__ import annotations

from typing import Any, Final

from pydantic.fields import FieldInfo

from shared.runtime.environment import is_secret, variable
from shared.runtime.settings import READERS

_UNITS: Final = {
    "_bytes_per_s": "bytes per second",
    "_per_s": "per second",
    "_bytes": "bytes",
    "_s": "seconds",
    "_days": "days",
}
_TYPES: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true` or `false`"}
_SERVICES: Final = ("registry", "rotator", "firmware")


def table() -> str:
    """Return one row for each setting: variable, type and unit, default, bounds, readers, meaning."""
    readers: dict[str, list[str]] = {}
    rows: dict[str, tuple[FieldInfo, dict[str, Any]]] = {}
    for reader, settings in READERS.items():
        schema = settings.model_json_schema()["properties"]
        for name, field in settings.model_fields.items():
            readers.setdefault(name, []).append(reader)
            rows.setdefault(name, (field, schema[name]))
    lines = ["| variable | type | default | bounds | read by | meaning |", "|---|---|---|---|---|---|"]
    for name, (field, schema) in rows.items():
        names = f"`{variable(name)}`" + (f", `{variable(name)}_FILE`" if is_secret(field) else "")
        kind, who = _type(name, field, schema), _who(readers[name])
        cells = (names, kind, _default(field), _bounds(schema), who, field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _alternatives(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a given value: an optional setting also allows `null`."""
    return next((part for part in schema.get("anyOf", ()) if part != {"type": "null"}), schema)


def _type(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    if is_secret(field):
        return "secret"
    given = _alternatives(schema)
    if given.get("format") in {"path", "file-path"}:
        return "path"
    unit = next((f", {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    return _TYPES[given["type"]] + (unit if given["type"] in {"integer", "number"} else "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "-"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "none" if field.default is None else f"`{field.default}`"


def _bounds(schema: dict[str, Any]) -> str:
    given = _alternatives(schema)
    rules = []
    if "enum" in given:
        rules.append(", ".join(f"`{value}`" for value in given["enum"]))
    if "exclusiveMinimum" in given:
        rules.append(f"more than {given['exclusiveMinimum']:g}")
    if "minimum" in given:
        rules.append(f"at least {given['minimum']}")
    if "maximum" in given:
        rules.append(f"at most {given['maximum']}")
    if "minLength" in given:
        rules.append("not empty")
    if "maxLength" in given:
        rules.append(f"at most {given['maxLength']} characters")
    if "pattern" in given:
        rules.append(f"`{given['pattern']}`")
    return ", ".join(rules)


def _who(readers: list[str]) -> str:
    """Return who reads a setting; the three services together are "all"."""
    if readers[: len(_SERVICES)] == [*_SERVICES]:
        return ", ".join(["all", *readers[len(_SERVICES) :]])
    return ", ".join(readers)
