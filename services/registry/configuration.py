"""Checks configurations against their model's JSON Schema (draft 2020-12)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from shared.errors import InvalidInputError
from shared.messages import storable


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless `schema` is a JSON Schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInputError(f"config_schema{_path(error)}: {error.message}") from None
    except RecursionError:
        raise InvalidInputError("config_schema: is nested too deeply") from None


def check(document: dict[str, Any], schema: Mapping[str, Any] | None, *, field: str) -> None:
    """Raise InvalidInputError naming the path and the rule unless `document` fits a device and the schema."""
    try:
        storable(document)
    except ValueError as error:
        raise InvalidInputError(f"{field}: {error}") from None
    if schema is None:
        return
    # The empty registry: a reference to another host must not be fetched from here.
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        fault = best_match(validator.iter_errors(document))
    except Unresolvable as unresolvable:
        raise InvalidInputError(f"config_schema: can not resolve {unresolvable}") from None
    except RecursionError:
        raise InvalidInputError("config_schema: refers to itself without end") from None
    except (re.error, AttributeError, TypeError, ValueError):
        # A $ref may point at any place in the schema, and only its keywords were checked.
        raise InvalidInputError("config_schema: a $ref points at something that is no schema") from None
    except ArithmeticError:
        raise InvalidInputError(f"{field}: has a number that is too large to check") from None
    if fault is not None:
        raise InvalidInputError(f"{field}{_path(fault)}: {fault.message}")


def _path(error: ValidationError | SchemaError) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
