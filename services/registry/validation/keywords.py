"""Keywords of a JSON Schema that would be ignored: a schema with one promises a check that never happens."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from jsonschema import Draft7Validator, Draft201909Validator, Draft202012Validator
from jsonschema.protocols import Validator
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

from services.registry.validation import formats
from shared.errors import InvalidInputError

OWN_PREFIX: Final = "x-"
"""Of annotations that are no keywords of any dialect."""
DIALECTS: Final[Mapping[type[Validator], str]] = {
    Draft202012Validator: "draft2020-12",
    Draft201909Validator: "draft2019-09",
    Draft7Validator: "draft7",
}
"""The dialects that a schema may have, the default first, with the names that jsonschema has for them."""
_ANNOTATIONS: Final = {"$comment", "contentSchema", "deprecated", "examples", "readOnly", "writeOnly"}
"""Of some dialects only, but harmless in all: they never refuse a value."""
_PARTNERS: Final = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}
"""Keywords that have an effect only next to another one."""


def _keywords(dialect: type[Validator]) -> frozenset[str]:
    """Return the keywords of a dialect's vocabularies, without those that it only mentions as outdated."""
    meta = dialect.META_SCHEMA
    resolver = REGISTRY.resolver(meta["$id"])
    vocabularies = [resolver.lookup(part["$ref"]).contents for part in meta.get("allOf", [])] or [meta]
    # These are places for schemas in all: what a $ref needs of them is checked.
    return frozenset({"definitions", "$defs"}.union(_ANNOTATIONS, *(it["properties"] for it in vocabularies)))


_OF_DIALECT: Final[Mapping[str, frozenset[str]]] = {
    dialect.META_SCHEMA["$id"].rstrip("#"): _keywords(dialect) for dialect in DIALECTS
}


def refuse_ignored(schema: Mapping[str, Any], dialect: type[Validator], *, where: str) -> None:
    """Raise InvalidInputError for a keyword of this subschema, not of those below it, that nothing checks.

    The message begins with `where`, the place of the subschema.
    """
    uri = dialect.META_SCHEMA["$id"].rstrip("#")
    for name in schema:
        reason = _unknown(name, uri) or _without_effect(name, schema, dialect)
        if reason is not None:
            raise InvalidInputError(f"{where}.{name}: {reason}")


def _unknown(name: str, uri: str) -> str | None:
    known = _OF_DIALECT[uri]
    if name in known or name.startswith(OWN_PREFIX):
        return None
    reason = f"is not a keyword of {uri}"
    elsewhere = [other for other, keywords in _OF_DIALECT.items() if name in keywords]
    if elsewhere:
        return f"{reason}, but of {' and '.join(elsewhere)}; $schema selects the dialect"
    near = get_close_matches(name, known, n=1)
    return f"{reason}; {f'is {near[0]} meant? ' if near else ''}annotations of your own begin with {OWN_PREFIX}"


def _without_effect(name: str, schema: Mapping[str, Any], dialect: type[Validator]) -> str | None:
    partner = _PARTNERS.get(name)
    if partner is not None and partner not in schema:
        return f"has no effect without {partner}"
    if name == "additionalItems" and not isinstance(schema.get("items"), list):
        return "has no effect unless items is an array"
    # https://json-schema.org/draft-07/draft-handrews-json-schema-01#rfc.section.8.3
    is_alone = "$ref" in schema and dialect.META_SCHEMA["$id"] == Draft7Validator.META_SCHEMA["$id"]
    if is_alone and name != "$ref" and name in dialect.VALIDATORS:
        return "has no effect next to $ref in draft-07; put both into allOf"
    # Draft-07 has the keyword, but its meta-schema does not.
    if name == "writeOnly" and not isinstance(schema[name], bool):
        return "must be true or false"
    if name == "format" and schema[name] not in formats.CHECKED.checkers:
        return (
            f"{schema[name]!r} is not one of the formats that are checked: {', '.join(formats.CHECKED.checkers)}"
        )
    return None
