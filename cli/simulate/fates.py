"""Which simulated devices fail, and how: the same ones at each start."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final, Literal
from uuid import UUID

from pydantic import SecretStr

from cli.simulate.tally import Fate, Tally
from device.options import Hooks
from shared import crypto
from shared.errors import InvalidInputError

_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_ALL: Final = 100.0


def percent(text: str, *, field: str) -> float:
    """Return the number in such as `1%` or `0.5%`; raise InvalidInputError naming the field."""
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > _ALL:
        raise InvalidInputError(f"{field}: must be a share of the devices from 0% to 100%, such as 1% or 0.5%")
    return float(found[1])


def check(percents: Mapping[Fate, float]) -> None:
    """Raise InvalidInputError when the shares are more than all devices."""
    total = sum(percents.values())
    if total > _ALL:
        names = ", ".join(fate.field for fate, share in percents.items() if share)
        raise InvalidInputError(f"{names}: must be at most 100% together, are {total:g}%")


def allot(client_ids: Collection[str], percents: Mapping[Fate, float]) -> dict[str, Fate]:
    """Return the devices that fail: of each kind its share, rounded, and at least one of what is not 0."""
    order = iter(sorted(client_ids, key=lambda it: hashlib.sha256(it.encode()).digest()))
    failing: dict[str, Fate] = {}
    for fate, share in percents.items():
        count = max(1, round(len(client_ids) * share / _ALL)) if share else 0
        failing |= dict.fromkeys(islice(order, count), fate)
    return failing


def hooks(fate: Fate | None, client_id: str, tally: Tally) -> Hooks:
    """Return what makes a device fail as its fate says, and what counts it."""
    usual = Hooks(on_event=partial(tally.saw, client_id))
    match fate:
        case Fate.SILENT:
            return replace(usual, hears=lambda _topic: False)
        case Fate.ROLLED_BACK:
            return replace(usual, self_test=lambda _version: "is simulated to fail")
        case Fate.WRONG_PROOF:
            return replace(usual, proof=partial(_wrong_proof, client_id, tally))
        case _:
            return usual


def _wrong_proof(
    client_id: str, tally: Tally, _secret: SecretStr, purpose: Literal["stored", "ack"], rotation_id: UUID
) -> str:
    tally.saw(client_id, "rotation.wrong_proof", {})
    return crypto.proof(SecretStr("of another device"), purpose, rotation_id)
