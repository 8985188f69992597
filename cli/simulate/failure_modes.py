"""Selects the simulated devices that fail, and how, and those that sleep: the same ones at each start."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final, Literal
from uuid import UUID

from pydantic import SecretStr

from cli.simulate.tally import FailureMode, Tally
from device.options import Hooks
from shared import crypto
from shared.errors import InvalidInputError

_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_ALL: Final = 100.0


def percent(text: str, *, field: str) -> float:
    """Return the number of a percentage such as `1%` or `0.5%`; raise InvalidInputError naming the field."""
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > _ALL:
        raise InvalidInputError(f"{field}: must be a percentage from 0% to 100%, such as 1% or 0.5%")
    return float(found[1])


def check(percents: Mapping[FailureMode, float]) -> None:
    """Raise InvalidInputError if the sum of the shares exceeds 100%."""
    total = sum(percents.values())
    if total > _ALL:
        names = ", ".join(mode.field for mode, share in percents.items() if share)
        raise InvalidInputError(f"{names}: must be at most 100% in total, are {total:g}%")


def assign(client_ids: Collection[str], percents: Mapping[FailureMode, float]) -> dict[str, FailureMode]:
    """Return the devices that fail: the share of each mode, rounded, but at least one device unless it is 0."""
    order = _order(client_ids)
    failing: dict[str, FailureMode] = {}
    for mode, share in percents.items():
        failing |= dict.fromkeys(islice(order, _count(client_ids, share)), mode)
    return failing


def sleepers(client_ids: Collection[str], share: float) -> list[str]:
    """Return the devices that sleep: this share of them, rounded, but at least one device unless it is 0."""
    return list(islice(_order(client_ids), _count(client_ids, share)))


def _order(client_ids: Collection[str]) -> Iterator[str]:
    return iter(sorted(client_ids, key=lambda it: hashlib.sha256(it.encode()).digest()))


def _count(client_ids: Collection[str], share: float) -> int:
    return max(1, round(len(client_ids) * share / _ALL)) if share else 0


def hooks(mode: FailureMode | None, client_id: str, tally: Tally) -> Hooks:
    """Return the hooks that make a device fail in its mode, and count its events."""
    usual = Hooks(on_event=partial(tally.record, client_id), measure=_measure)
    match mode:
        case FailureMode.SILENT:
            return replace(usual, accepts=lambda _topic: False)
        case FailureMode.ROLLED_BACK:
            return replace(usual, self_test=lambda _version: "is simulated to fail")
        case FailureMode.WRONG_PROOF:
            return replace(usual, proof=partial(_wrong_proof, client_id, tally))
        case _:
            return usual


def _measure() -> dict[str, float]:
    """Return vitals as a board might have them."""
    return {
        "heap_free_bytes": random.randint(120_000, 160_000),  # noqa: S311 - simulated
        "rssi_dbm": random.randint(-75, -55),  # noqa: S311 - simulated
    }


def _wrong_proof(
    client_id: str, tally: Tally, _secret: SecretStr, purpose: Literal["stored", "ack"], rotation_id: UUID
) -> str:
    tally.record(client_id, "rotation.wrong_proof", {})
    return crypto.proof(SecretStr("of another device"), purpose, rotation_id)
