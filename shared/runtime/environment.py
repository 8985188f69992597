"""Reads settings from `MDM_...` environment variables; an invalid or unknown one aborts startup."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Any, Final, TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from shared.errors import InvalidInputError
from shared.runtime import secret_files
from shared.runtime.settings import READERS

PREFIX: Final = "MDM_"
REMOVED: Final = frozenset({"MDM_FIRMWARE_HOUSE_S", "MDM_FIRMWARE_INFLIGHT", "MDM_WINDOW"})
S = TypeVar("S", bound=BaseSettings)


def variable(field: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + field.upper()


def is_secret(field: FieldInfo) -> bool:
    """Return whether a setting may also be given in a file that `MDM_X_FILE` names."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def known() -> set[str]:
    """Return all variables of services, tools and scripts."""
    names = set()
    for reader in READERS.values():
        for field, info in reader.model_fields.items():
            names.add(variable(field))
            if is_secret(info):
                names.add(f"{variable(field)}_FILE")
    return names


def load(kind: type[S]) -> S:
    """Return the settings from the environment, or raise InvalidInputError naming each invalid variable."""
    faults, secrets = _unknown(), dict[str, Any]()
    refused = set()
    for field in (name for name, info in kind.model_fields.items() if is_secret(info)):
        try:
            secrets[field] = secret_files.read(variable(field))
        except InvalidInputError as error:
            refused.add(field)
            faults.append(error.message)
    try:
        settings = kind(**secrets)
    except ValidationError as error:
        faults += _faults(error, secrets, refused)
    if faults:
        raise InvalidInputError("; ".join(faults))
    return settings


def _unknown() -> list[str]:
    """Return a fault for each unknown variable with our prefix, so that a typo does not go unnoticed."""
    names = known()
    faults = []
    for name in sorted(name for name in os.environ if name.startswith(PREFIX) and name not in names):
        if name in REMOVED:
            faults.append(f"{name}: this setting was removed; delete it")
            continue
        near = get_close_matches(name, names, 1)
        faults.append(f"{name}: there is no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    return faults


def _faults(error: ValidationError, secrets: dict[str, Any], refused: set[str]) -> list[str]:
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        rule = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            faults.append(rule)
            continue
        field = str(fault["loc"][0])
        if field in refused:
            continue
        if field in secrets and secrets[field] is None:
            rule = f"must be given, or {variable(field)}_FILE"
        elif fault["type"] == "missing":
            rule = "must be given"
        faults.append(f"{variable(field)}: {rule}")
    return faults
