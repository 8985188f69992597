"""Sealing of configurations: values whose schema is `writeOnly` are encrypted one by one inside of documents.

Documents are merged, compared and stored with sealed values in them, as texts (shared.protocol.sealed); only the
check against the schema and the message to the device have them opened. Objects are sealed member by member, so
that merging (RFC 7396) works; arrays as a whole, unless only a part of their items is `writeOnly`. The JSON
[owner, path, value] is encrypted: a ciphertext that is moved to another place or device does not open.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import SecretStr

from services.registry import rules
from services.registry.validation import patterns
from services.registry.validation.places import Place, Step
from shared.crypto import SecretUnreadableError, Vault
from shared.database import device_refs
from shared.errors import InvalidInputError
from shared.protocol import sealed
from shared.protocol.sealed import SealedText

Json: TypeAlias = Any
Path: TypeAlias = tuple[str | int, ...]
Change: TypeAlias = Callable[[Path, SealedText, str], Json]
BoundPath: TypeAlias = tuple[str | int | None, ...]
"""A path in which None is any item of an array: items may change their order."""
_LABEL_BYTES = 6
_SHORTEST_QUOTE = 4


def of_model(code: str) -> str:
    """Return the owner of what is sealed in a model's defaults."""
    return f"model {code}"


def of_layer(tag: str) -> str:
    """Return the owner of what is sealed in a layer."""
    return f"layer {tag}"


def readable_by(client_id: str) -> Callable[[str], bool]:
    """Return the condition on owners for the documents of a device; its overrides belong to its client id."""

    def is_readable(owner: str) -> bool:
        kind, _, name = owner.partition(" ")
        return (
            owner == client_id
            or kind == "layer"
            or (kind == "model" and client_id.startswith(device_refs.client_id(name, "")))
        )

    return is_readable


@dataclass(frozen=True, slots=True)
class Opened:
    """A document for the device and for the check of its schema, with the paths of its sealed values."""

    document: dict[str, Json]
    sealed: list[Path]


@dataclass(slots=True)
class Seals:
    """Seals the documents of one owner; an equal value at the same place gets the seal that it had."""

    vault: Vault
    owner: str
    _known: dict[str, str] = field(default_factory=dict)

    def know(self, document: dict[str, Json]) -> None:
        """Remember the sealed values of a document of the owner; those that no key opens are passed over."""
        for _, text, value in _leaves(document, ()):
            if text is not None and text.token is not None:
                try:
                    self._known[self._content(text)] = value
                except SecretUnreadableError:
                    continue

    def accept(self, given: dict[str, Json], old: dict[str, Json], *, where: str) -> dict[str, Json]:
        """Return what an admin has given with each placeholder replaced by the value of `old` that it names.

        Raise InvalidInputError for one that names no value of `old` at this place.
        """
        stored: dict[str, str] = {text.label: value for _, text, value in _leaves(old, ()) if text is not None}

        def kept(path: Path, text: SealedText, value: str) -> str:
            found = sealed.parse(stored.get(text.label))
            if text.token is None and found is not None and _binds(json.loads(self._content(found))[1], path):
                return stored[text.label]
            raise InvalidInputError(
                f"{where}{_dotted(path)}: {value[:40]} is not the placeholder of a sealed value that is here now; "
                "set the value itself, or leave it out"
            )

        return _replaced(given, kept)

    def seal(self, document: dict[str, Json], places: Iterable[Place]) -> dict[str, Json]:
        """Return the document with what is at these places sealed, and what is sealed already as it is."""
        found: dict[str, Json] = self._sealed(document, list(places), ())
        return found

    def _sealed(self, value: Json, places: list[Place], path: BoundPath) -> Json:
        if [] in places:
            return self._sealed_whole(value, path)
        if isinstance(value, dict):
            return {
                name: self._sealed(inner, _below(places, name), (*path, name)) for name, inner in value.items()
            }
        if isinstance(value, list):
            return [
                self._sealed(inner, below, (*path, None if _is_any(places, number) else number))
                for number, inner in enumerate(value)
                for below in [_below(places, number)]
            ]
        return value

    def _sealed_whole(self, value: Json, path: BoundPath) -> Json:
        if isinstance(value, dict):
            return {name: self._sealed_whole(inner, (*path, name)) for name, inner in value.items()}
        if isinstance(value, list) and any(text for _, text, _ in _leaves(value, ())):
            return [self._sealed_whole(inner, (*path, None)) for inner in value]
        if value is None or sealed.parse(value) is not None:
            return value
        content = json.dumps([self.owner, path, value], sort_keys=True)
        if content not in self._known:
            token = self.vault.encrypt(SecretStr(content)).decode()
            self._known[content] = str(SealedText(secrets.token_hex(_LABEL_BYTES), token))
        return self._known[content]

    def _content(self, text: SealedText) -> str:
        content = _decrypted(self.vault, text)
        if json.loads(content)[0] != self.owner:
            raise SecretUnreadableError("this sealed value belongs to another device, layer or model")
        return content


def opened(vault: Vault, document: dict[str, Json], client_id: str) -> Opened:
    """Return a device's document as the device gets it.

    Raise SecretUnreadableError if no key opens a sealed value, or if it was moved.
    """
    paths: list[Path] = []
    is_readable = readable_by(client_id)

    def value_of(path: Path, text: SealedText, _: str) -> Json:
        owner, bound, value = json.loads(_decrypted(vault, text))
        if not is_readable(owner) or not _binds(bound, path):
            raise SecretUnreadableError(f"the sealed value{_dotted(path)} was sealed for another place or device")
        paths.append(path)
        return value

    return Opened(_replaced(document, value_of), paths)


def same(vault: Vault, left: dict[str, Json], right: dict[str, Json], client_id: str) -> bool:
    """Return whether two documents of a device have the same values, whatever their seals."""
    if rules.same(sealed.shown(left), sealed.shown(right)):
        return True
    try:
        return rules.same(opened(vault, left, client_id).document, opened(vault, right, client_id).document)
    except SecretUnreadableError:
        return False


def reencrypted(vault: Vault, document: dict[str, Json]) -> dict[str, Json]:
    """Return the document with each sealed value under the first master key; raise SecretUnreadableError."""

    def again(_: Path, text: SealedText, __: str) -> str:
        return str(text._replace(token=vault.reencrypt((text.token or "").encode()).decode()))

    return _replaced(document, again)


def unquoted(text: str, document: Opened) -> str:
    """Return the text without sealed values of a document that it quotes; the shortest are not looked for."""
    for path in document.sealed:
        value: Json = document.document
        for step in path:
            value = value[step]
        for _, _, leaf in _leaves(value, ()):
            quoted = leaf if isinstance(leaf, str) else json.dumps(leaf)
            if len(quoted) >= _SHORTEST_QUOTE:
                text = text.replace(quoted, "(sealed)")
    return text


def _decrypted(vault: Vault, text: SealedText) -> str:
    return vault.decrypt((text.token or "").encode()).get_secret_value()


def _leaves(value: Json, path: Path) -> Iterator[tuple[Path, SealedText | None, Json]]:
    """Yield each value that is no object or array, with its path, and its parts if it is sealed."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, step))
    else:
        yield path, sealed.parse(value), value


def _replaced(document: dict[str, Json], change: Change) -> dict[str, Json]:
    """Return a document with each sealed value or placeholder changed."""
    return {name: _changed(inner, (name,), change) for name, inner in document.items()}


def _changed(value: Json, path: Path, change: Change) -> Json:
    if isinstance(value, dict):
        return {name: _changed(inner, (*path, name), change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_changed(inner, (*path, number), change) for number, inner in enumerate(value)]
    text = sealed.parse(value)
    return value if text is None else change(path, text, value)


def _below(places: list[Place], step: str | int) -> list[Place]:
    return [place[1:] for place in places if _leads(place[0], step)]


def _is_any(places: list[Place], number: int) -> bool:
    return any(isinstance(place[0], dict) and _leads(place[0], number) for place in places)


def _leads(step: Step, to: str | int) -> bool:
    """Return whether a step of a place is the one to this member or item."""
    if not isinstance(step, dict):
        return step == to
    if isinstance(to, int):
        return "from" in step and to >= step["from"]
    if "pattern" in step:
        return bool(patterns.compiled(step["pattern"]).search(to))
    return (
        "others" in step
        and to not in step["others"]
        and not any(patterns.compiled(pattern).search(to) for pattern in step["patterns"])
    )


def _binds(bound: Sequence[str | int | None], path: Path) -> bool:
    return len(bound) == len(path) and all(
        isinstance(step, int) if wanted is None else wanted == step
        for wanted, step in zip(bound, path, strict=True)
    )


def _dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
