"""The places of a JSON Schema that are `writeOnly`: what a document has there, or below, is sealed.

A place is a list of steps from the root: the name of a member, `{"pattern": ...}` for members whose name has the
pattern, `{"others": [name, ...], "patterns": [...]}` for all members except these, the number of an item, or
`{"from": number}` for that item and all after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from referencing import Resource, Specification
from referencing.jsonschema import Schema, SchemaRegistry

from shared.errors import InvalidInputError

Step: TypeAlias = str | int | dict[str, Any]
Place: TypeAlias = list[Step]

MAX_BYTES: Final = 32 * 1024
"""Limit of all places of a schema, as JSON."""
_DEFINITIONS: Final = ("$defs", "definitions")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_UNDECIDED: Final = (
    "has a writeOnly, but whether it applies depends on the document; put it outside, or into allOf"
)


def of(schema: Schema, specification: Specification[Schema], registry: SchemaRegistry) -> list[Place]:
    """Return the places of a valid schema; raise InvalidInputError for a `writeOnly` without a fixed place."""
    finder = _Finder()
    root = specification.create_resource(schema)
    finder.visit(root, registry.resolver_with_root(root), [], "config_schema")
    size_bytes = len(json.dumps(finder.found))
    if size_bytes > MAX_BYTES:
        raise InvalidInputError(
            f"config_schema: its writeOnly are too many: their places take {size_bytes} bytes of {MAX_BYTES}"
        )
    return finder.found


def name_of(place: Place) -> str:
    """Return a place for people: `nets[].psk`, or `*` for all members that are not named."""
    names = (f".{step}" if isinstance(step, str) else _name_of(step) for step in place)
    return "".join(names).removeprefix(".") or "everything"


def _name_of(step: int | dict[str, Any]) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if "from" in step:
        return f"[{step['from']}...]" if step["from"] else "[]"
    return f"./{step['pattern']}/" if "pattern" in step else ".*"


def paths_below(schema: Mapping[str, Any]) -> dict[int, str]:
    """Return the paths from a schema to the objects one and two levels below it, by id."""
    found = {}
    for name, value in schema.items():
        found[id(value)] = f".{name}"
        if isinstance(value, Mapping):
            found |= {id(part): f".{name}.{key}" for key, part in value.items()}
        elif isinstance(value, list):
            found |= {id(part): f".{name}[{number}]" for number, part in enumerate(value)}
    return found


class _Finder:
    """Follows the subschemas that apply to fixed places."""

    def __init__(self) -> None:
        self.found: list[Place] = []
        self._visiting: list[int] = []
        self._without: set[int] = set()
        """Schemas that have no `writeOnly`, nor has what they refer to."""

    def visit(self, resource: Resource[Schema], resolver: Any, place: Place, where: str) -> None:  # noqa: ANN401 - has no public type
        """Find what is in one subschema that applies to a place; `where` names it in errors."""
        schema = _keywords(resource)
        if not self._mentions(resource, resolver):
            return
        if schema.get("writeOnly") is True:
            if place not in self.found:
                self.found.append(place)
            return
        if id(schema) in self._visiting:
            raise InvalidInputError(
                f"{where}: refers to itself, so there is no end to the places of its writeOnly"
            )
        self._visiting.append(id(schema))
        for each, its_resolver, steps, below in _applied(resource, resolver):
            if steps is not None:
                self.visit(each, its_resolver, place + steps, where + below)
            elif self._mentions(each, its_resolver):
                raise InvalidInputError(f"{where}{below}: {_UNDECIDED}")
        self._visiting.pop()

    def _mentions(self, resource: Resource[Schema], resolver: Any) -> bool:  # noqa: ANN401
        """Return whether a `writeOnly` is in a subschema or in what it refers to."""
        seen: set[int] = set()
        waiting = [(resource, resolver)]
        while waiting:
            each, its_resolver = waiting.pop()
            schema = _keywords(each)
            if id(schema) in seen or id(schema) in self._without:
                continue
            if schema.get("writeOnly") is True:
                return True
            seen.add(id(schema))
            waiting += [(part, found) for part, found, *_ in _applied(each, its_resolver)]
        self._without |= seen
        return False


def _applied(
    resource: Resource[Schema],
    resolver: Any,  # noqa: ANN401
) -> Iterator[tuple[Resource[Schema], Any, Place | None, str]]:
    """Yield each subschema, and each target of a reference, with its resolver, and its path from this schema.

    Next to last are the steps to where it always applies; None if that depends on the document.
    """
    schema, resolver = _keywords(resource), resolver.in_subresource(resource)
    steps, paths = _steps(schema), paths_below(schema)
    # What is only defined applies where something refers to it.
    defined = {id(part) for name in _DEFINITIONS for part in schema.get(name, {}).values()}
    for each in resource.subresources():
        if id(each.contents) not in defined:
            yield each, resolver, steps.get(id(each.contents)), paths.get(id(each.contents), "")
    for name in _REFERENCES:
        if name in schema:
            found = resolver.lookup(schema[name])
            target = resource._specification.create_resource(found.contents)  # noqa: SLF001
            yield target, found.resolver, [] if name == "$ref" else None, f".{name}"


def _keywords(resource: Resource[Schema]) -> Mapping[str, Any]:
    """Return the schema of a resource; true and false have no keywords."""
    return resource.contents if isinstance(resource.contents, Mapping) else {}


def _steps(schema: Mapping[str, Any]) -> dict[int, Place]:
    """Return the steps to the places to which subschemas always apply, by the id of the subschema."""
    found: dict[int, Place] = {id(part): [] for part in schema.get("allOf", ())}
    named, patterned = schema.get("properties", {}), schema.get("patternProperties", {})
    found |= {id(part): [name] for name, part in named.items()}
    found |= {id(part): [{"pattern": pattern}] for pattern, part in patterned.items()}
    others = {"others": list(named), "patterns": list(patterned)}
    found[id(schema.get("additionalProperties"))] = [others]
    listed, items = schema.get("prefixItems", ()), schema.get("items")
    if isinstance(items, list):  # before 2020-12
        listed, items = items, schema.get("additionalItems")
    found |= {id(part): [number] for number, part in enumerate(listed)}
    found[id(items)] = [{"from": len(listed)}]
    return found
