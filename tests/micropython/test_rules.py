"""The package's rules of a rotation decide as the reference device's do, whatever comes in whatever order."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from device import rotation as reference
from device.rotation import Slot, Slots, Wanted
from shared.errors import IllegalTransitionError
from shared.protocol import messages
from tests.micropython.board import PROGRAMS, SDK, needs_micropython, run
from tools.traces import profiles, secrets, text

Json = dict[str, Any]
Record = tuple[Json, Json | None]
ROTATIONS = [str(UUID(int=number)) for number in range(3)]


def module(name: str) -> ModuleType:
    """Load a module of the package that needs nothing of MicroPython."""
    spec = importlib.util.spec_from_file_location(name, SDK / "mdm" / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


ours = module("rotation")
clock = module("clock")
generations = st.integers(1, 4)
slots_of = st.fixed_dictionaries(
    {
        "secret": st.sampled_from("abc"),
        "generation": generations,
        "rotation_id": st.none() | st.sampled_from(ROTATIONS),
    }
)
records = st.tuples(slots_of, st.none() | slots_of)
times = st.integers(0, 3)
wishes = st.none() | st.fixed_dictionaries(
    {"rotation_id": st.sampled_from(ROTATIONS), "generation": generations, "deadline": times}
)
offers = st.fixed_dictionaries(
    {
        "rotation_id": st.sampled_from(ROTATIONS),
        "generation": generations,
        "current_generation": generations,
        "deadline": times,
    }
)
moments = st.none() | times


def slot(plain: Json) -> Slot:
    rotation_id = plain["rotation_id"]
    return Slot(SecretStr(plain["secret"]), plain["generation"], rotation_id and UUID(rotation_id))


def slots(record: Record) -> Slots:
    first, second = record
    return Slots(slot(first), None if second is None else slot(second))


def plain_slot(it: Slot | None) -> Json | None:
    if it is None:
        return None
    rotation_id = None if it.rotation_id is None else str(it.rotation_id)
    return {"secret": it.secret.get_secret_value(), "generation": it.generation, "rotation_id": rotation_id}


def plain(it: Slots) -> tuple[Json | None, Json | None]:
    return plain_slot(it.first), plain_slot(it.second)


def moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def wanted(plain_wish: Json | None) -> Wanted | None:
    if plain_wish is None:
        return None
    at = datetime.fromtimestamp(plain_wish["deadline"], UTC)
    return Wanted(UUID(plain_wish["rotation_id"]), plain_wish["generation"], at)


def plain_wish(it: Wanted | None) -> Json | None:
    if it is None:
        return None
    return {
        "rotation_id": str(it.rotation_id),
        "generation": it.generation,
        "deadline": int(it.deadline.timestamp()),
    }


@given(records, wishes, offers, moments)
def test_an_offer(record: Record, wish: Json | None, offer: Json, now: int | None) -> None:
    sent = messages.RotationOffer.model_validate({**offer, "deadline": moment(offer["deadline"])})
    answer = reference.on_offer(slots(record), wanted(wish), sent, now=moment(now))
    change, kept, answers = ours.on_offer(record, wish, offer, now)
    kept = kept and {name: kept[name] for name in ("rotation_id", "generation", "deadline")}
    assert (change, kept) == (answer.change, plain_wish(answer.wanted))
    assert answers == reference.is_ours(answer.verdict)


@given(records, wishes, st.sampled_from(ROTATIONS), generations, moments)
def test_a_secret_and_what_is_due(
    record: Record, wish: Json | None, rotation_id: str, number: int, now: int | None
) -> None:
    message = {"rotation_id": rotation_id, "generation": number}
    sent = messages.RotationSecret.model_validate({**message, "secret": "s" * 32})
    present, at = slots(record), moment(now)
    assert ours.takes_secret(record, wish, message, now) == reference.takes_secret(
        present, wanted(wish), sent, now=at
    )
    for login in (None, number):
        assert ours.due(record, wish, login, now) == reference.due(present, wanted(wish), login, now=at)
        assert ours.must_switch(record, login, rotation_id) == reference.must_switch(
            present, login, UUID(rotation_id)
        )
        assert ours.is_orphan(record, login) == reference.is_orphan(present, login)


@given(records, st.sampled_from(ROTATIONS), generations)
def test_the_end_of_a_rotation(record: Record, rotation_id: str, number: int) -> None:
    present = slots(record)
    assert ours.on_ended(record, rotation_id, ours.PROMOTE) == reference.on_done(present, UUID(rotation_id))
    assert ours.on_ended(record, rotation_id, ours.DISCARD) == reference.on_cancelled(present, UUID(rotation_id))
    assert ours.on_confirmed(record, number) == reference.on_confirmed(present, number)
    assert ours.changed(record, ours.KEEP) == record
    assert ours.changed(record, ours.DISCARD) == plain(reference.discarded(present))
    if record[1] is None:
        with pytest.raises(ValueError, match="empty"):
            ours.changed(record, ours.PROMOTE)
        with pytest.raises(IllegalTransitionError):
            reference.promoted(present)
    else:
        assert ours.changed(record, ours.PROMOTE) == plain(reference.promoted(present))


@given(records, slots_of)
def test_a_secret_that_no_rotation_brings(record: Record, other: Json) -> None:
    present = slots(record)
    spare = reference.spare(present, slot(other))
    order = [*reference.login_order(present), *([spare] if spare else [])]
    assert ours.login_order(record, other) == [plain_slot(it) for it in order]
    assert ours.is_spare(record, other) == (spare is not None)
    assert ours.adopted(record, other) == plain(reference.adopted(present, slot(other)))
    assert ours.recovered(record, other) == plain(reference.recovered(present, slot(other)))


@given(st.datetimes(datetime(1970, 1, 1), datetime(2399, 12, 31)), st.integers(-720, 840))  # noqa: DTZ001 - naive
def test_a_time_is_read_as_the_library_reads_it(naive: datetime, minutes: int) -> None:
    moment_there = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment_there.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert clock.seconds(moment_there.isoformat()) == expected
    at_zero = naive.replace(tzinfo=UTC, microsecond=0)
    assert clock.seconds(at_zero.isoformat().replace("+00:00", "Z")) == int(at_zero.timestamp())


@needs_micropython
@pytest.mark.parametrize("seed", [0, 5000], ids=["of the vectors", "more"])
async def test_its_parts_go_through_all_histories_on_micropython(tmp_path: Path, seed: int) -> None:
    """Its integers, dicts and slices are not CPython's."""
    made, number = tmp_path / "traces.json", text.HISTORIES
    if seed == 0:
        made.write_text(text.text())
    else:
        number = 20
        seeds = range(seed, seed + number)
        histories = {"profiles": list(map(profiles.history, seeds)), "secrets": list(map(secrets.history, seeds))}
        made.write_text(json.dumps(histories))
    output = await run(PROGRAMS / "traces.py", str(SDK), str(made))
    assert output.splitlines() == [f"profiles {number}", f"secrets {number}"]
