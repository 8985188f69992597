"""JSON Schema for models: its dialects, patterns in linear time, and limits of a schema.

Runs in the process of the worker: a schema may make a check take any time and memory, which the limits here make
unlikely but cannot rule out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from jsonschema import (
    FormatChecker,
    _keywords,
    _legacy_keywords,
    _utils,
)
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import Schema, SchemaRegistry, UnknownDialect, specification_with

from services.registry.validation import formats, keywords, patterns, places
from shared.errors import InvalidInputError

Path = Sequence[str | int]
Json = Mapping[str, Any] | Sequence[Any] | str | float | None

MAX_EXPANDED: Final = 20_000
"""Limit of subschemas of a schema, with each `$ref` replaced by its target."""
NOTHING_REMOTE: Final[SchemaRegistry] = Registry()
"""A reference to another host must not be fetched from here."""
_CHOICES: Final = 3
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_NAMING: Final = {
    "required",
    "dependentRequired",
    "dependencies",
    "additionalProperties",
    "unevaluatedProperties",
}
"""Keywords whose messages quote only names of members."""


class _Patterns:
    """Replaces the module `re` in jsonschema, whose keywords search in more places than can be replaced."""

    @staticmethod
    def search(pattern: str, text: str) -> object:
        return patterns.compiled(pattern).search(text)


for module in (_keywords, _legacy_keywords, _utils):
    vars(module)["re"] = _Patterns


def _multiple_of(
    validator: Validator, factor: float, value: Json, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """Compare the numbers as decimals: 0.3 is a multiple of 0.1, though their floats are not."""
    if validator.is_type(value, "number") and (_exact(value) / _exact(factor)).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {factor!r}")


def _exact(number: Json) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


_DIALECTS: Final[Mapping[str, type[Validator]]] = {
    # Under their versions' names: jsonschema then finds these, also at a $schema inside of a schema.
    cls.META_SCHEMA["$id"].rstrip("#"): extend(cls, {"multipleOf": _multiple_of}, version=version)  # type: ignore[no-untyped-call]
    for cls, version in keywords.DIALECTS.items()
}
_DEFAULT: Final = next(iter(_DIALECTS))
_PATTERNS_CHECKED: Final = FormatChecker(formats=())


@formats.CHECKED.checks("regex", raises=ValueError)
@_PATTERNS_CHECKED.checks("regex", raises=ValueError)
def _is_pattern(pattern: object) -> bool:
    return not isinstance(pattern, str) or bool(patterns.linear(pattern))


def check_schema(schema: Mapping[str, Any]) -> list[places.Place]:
    """Return the places that are `writeOnly`; raise InvalidInputError unless a model may have this `schema`.

    The message names place and rule.
    """
    try:
        dialect = _dialect(schema)
        _refuse_invalid(schema, dialect, where="config_schema")
        expanded = _Expansion(dialect).size_of(schema, where="config_schema")
        if expanded <= MAX_EXPANDED:
            return places.of(schema, specification_with(dialect.META_SCHEMA["$id"]), NOTHING_REMOTE)
    except UnknownDialect as unknown:
        raise InvalidInputError(
            f"config_schema: $schema must be one of {', '.join(_DIALECTS)}, is {unknown.uri}"
        ) from None
    except RecursionError:
        raise InvalidInputError("config_schema: is nested too deeply") from None
    raise InvalidInputError(
        f"config_schema: its $refs make it {expanded} subschemas; at most {MAX_EXPANDED} are allowed"
    )


def check(document: dict[str, Any], schema: Mapping[str, Any], *, field: str, sealed: Iterable[Path] = ()) -> None:
    """Raise InvalidInputError naming the path and the rule unless `document` fits the schema.

    The message quotes no value at the `sealed` paths.
    """
    try:
        dialect = _dialect(schema)
    except UnknownDialect:
        dialect = _DIALECTS[_DEFAULT]  # As when the schema was stored.
    try:
        fault = best_match(
            dialect(schema, registry=NOTHING_REMOTE, format_checker=formats.CHECKED).iter_errors(document)
        )
    except Unresolvable as unresolvable:
        raise InvalidInputError(f"config_schema: cannot resolve {unresolvable}") from None
    except RecursionError:
        raise InvalidInputError("config_schema: refers to itself without end") from None
    except (re.error, AttributeError, TypeError, ValueError, UnknownDialect):
        # A $ref may point at any place in a schema that predates the check of such places.
        raise InvalidInputError("config_schema: a $ref points at something that is not a schema") from None
    if fault is not None:
        raise InvalidInputError(f"{field}{_path(fault)}: {_reason(fault, sealed)}")


def _reason(fault: ValidationError, sealed: Iterable[Path]) -> str:
    """Return the rule that is broken; of a choice between schemas, the rules of the first ones.

    It has no values if the faulty one is, is in, or has a sealed value.
    """
    faulty = list(fault.absolute_path)
    # One path is the beginning of the other.
    is_open = all(any(a != b for a, b in zip(faulty, path, strict=False)) for path in sealed)
    if is_open or fault.validator in _NAMING:
        choices = dict.fromkeys(choice.message for choice in fault.context or ())
        return ", and ".join([*choices][:_CHOICES]) or fault.message
    rule = fault.validator_value
    limit = "" if fault.validator is None or isinstance(rule, Mapping | list) else f" {json.dumps(rule)}"
    return f"must fit {fault.validator or 'the schema'}{limit}; the value is sealed and not shown"


def _dialect(schema: Mapping[str, Any]) -> type[Validator]:
    named = schema.get("$schema", _DEFAULT)
    try:
        return _DIALECTS[named.rstrip("#")]
    except (KeyError, AttributeError):
        raise UnknownDialect(named) from None


def _refuse_invalid(schema: Schema, dialect: type[Validator], *, where: str) -> None:
    rules = dialect(dialect.META_SCHEMA, registry=NOTHING_REMOTE, format_checker=_PATTERNS_CHECKED)
    fault = best_match(rules.iter_errors(schema))
    if fault is not None:
        reason = _reason(fault, ())
        if isinstance(fault.cause, ValueError):
            reason = f"{fault.instance!r} must be a pattern that RE2 can search: {fault.cause}"
        raise InvalidInputError(f"{where}{_path(fault)}: {reason}")


class _Expansion:
    """Follows the references of a schema."""

    def __init__(self, dialect: type[Validator]) -> None:
        self._dialect = dialect
        self._specification = specification_with(dialect.META_SCHEMA["$id"])
        self._references = [name for name in _REFERENCES if name in dialect.VALIDATORS]
        self._sizes: dict[int, int] = {}

    def size_of(self, schema: Mapping[str, Any], *, where: str) -> int:
        """Return the number of subschemas with each reference replaced; a recursive one counts as one.

        Raise InvalidInputError for a reference that leaves the schema, or whose target is not a schema, and for a
        keyword that nothing checks; `where` names the schema.
        """
        root = self._specification.create_resource(schema)
        return self._size(root, NOTHING_REMOTE.resolver_with_root(root), self._dialect, where)

    def _size(self, resource: Resource[Schema], resolver: Any, dialect: type[Validator], where: str) -> int:  # noqa: ANN401 - has no public type
        contents = resource.contents
        if not isinstance(contents, Mapping):
            return 1
        known = self._sizes.get(id(contents))
        if known is not None:
            return known
        if "$schema" in contents:
            dialect = _dialect(contents)
        keywords.refuse_ignored(contents, dialect, where=where)
        self._sizes[id(contents)] = size = 1
        resolver = resolver.in_subresource(resource)
        paths = places.paths_below(contents)
        for each in resource.subresources():
            size += self._size(each, resolver, dialect, where + paths.get(id(each.contents), ""))
        for name in self._references:
            if name in contents:
                size += self._size_of_target(contents[name], resolver, dialect)
        self._sizes[id(contents)] = size
        return size

    def _size_of_target(self, reference: str, resolver: Any, dialect: type[Validator]) -> int:  # noqa: ANN401
        try:
            found = resolver.lookup(reference)
        except (Unresolvable, ValueError):
            raise InvalidInputError(
                f"config_schema: the $ref {reference} must point into the schema itself"
            ) from None
        where = f"config_schema: where the $ref {reference} points"
        if id(found.contents) not in self._sizes:
            _refuse_invalid(found.contents, self._dialect, where=where)
        target = Resource.from_contents(found.contents, default_specification=self._specification)
        return self._size(target, found.resolver, dialect, where)


def _path(error: ValidationError) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
