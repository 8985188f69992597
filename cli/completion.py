"""Completion of the names that only the services know: within a moment, or not at all, and never with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from cli import client, pages, profile
from shared.errors import FleetError
from shared.protocol import admin
from shared.runtime import secret_files

TIMEOUT_S: Final = 1.5
_SETTINGS: Final = ("host", "port", "account", "ca_file", "token_url")

Ask: TypeAlias = Callable[..., Any]
Names: TypeAlias = Callable[[Ask, Mapping[str, Any]], Iterable[str]]


def _completed(names: Names) -> Callable[[Any, Any, str], list[str]]:
    def complete(context: Any, parameter: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - click's are private
        del parameter
        given = context.find_root().params

        def ask(operation: admin.Operation[Any, Any], **fields: object) -> Any:  # noqa: ANN401 - its result
            settings = {name: given.get(name) for name in _SETTINGS}
            settings["password"] = secret_files.read("MDM_PASSWORD")
            path = Path(given["profile"]) if given.get("profile") else None
            request = client.build(operation, **fields)
            return client.run(
                lambda connection: connection.call(operation, request, timeout_s=TIMEOUT_S),
                profile.resolve(path, settings),
                timeout_s=TIMEOUT_S,
            )

        try:
            found = sorted({name for name in names(ask, context.params) if name.startswith(incomplete)})
        except FleetError:
            return []
        return found

    return complete


def _devices(ask: Ask, _: Mapping[str, Any]) -> Iterable[str]:
    """Yield the client ids of the first devices, and their names that are one word."""
    for device in ask(admin.DEVICE_LIST, limit=pages.PAGE).devices:
        yield device.client_id
        if len(device.name.split()) == 1:
            yield device.name


def _tags(ask: Ask, _: Mapping[str, Any]) -> Iterable[str]:
    return (tag for device in ask(admin.DEVICE_LIST, limit=pages.PAGE).devices for tag in device.tags)


def _models(ask: Ask, _: Mapping[str, Any]) -> Iterable[str]:
    return (model.code for model in ask(admin.MODEL_LIST).models)


def _versions(ask: Ask, given: Mapping[str, Any]) -> Iterable[str]:
    return (image.version for image in ask(admin.IMAGE_LIST, model=given.get("model")).images)


NAMES: Final = {
    "device": _completed(_devices),
    "model": _completed(_models),
    "code": _completed(_models),
    "tag": _completed(_tags),
    "tags": _completed(_tags),
    "version": _completed(_versions),
}
"""By the names of parameters."""
