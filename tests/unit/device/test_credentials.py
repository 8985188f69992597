from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from joserfc.jwk import OKPKey
from pydantic import SecretStr

from device.credentials import Credentials
from device.options import Options
from device.rotation import Slot
from device.slots import SlotStore
from device.uplink import Ending
from shared import crypto
from shared.protocol import messages, topics
from tests.unit.device.kit import EPOCH, Surroundings

FIRST = Slot(SecretStr("a" * 43), 1)
NEW = SecretStr("b" * 43)
ID = UUID(int=1)


def boot(
    folder: Path, around: Surroundings, *, pair: OKPKey | None = None, provisioned: Slot = FIRST
) -> tuple[Credentials, SlotStore]:
    store = SlotStore(folder, provisioned, fault=around.hooks.fault)
    return Credentials(
        store, provisioned, around.uplink, around.server_clock, Options(retry_s=5), pair=pair
    ), store


def offer() -> messages.RotationOffer:
    deadline = EPOCH + timedelta(seconds=300)
    return messages.RotationOffer(rotation_id=ID, deadline=deadline, generation=2, current_generation=1)


def secret() -> messages.RotationSecret:
    return messages.RotationSecret(rotation_id=ID, generation=2, secret=NEW.get_secret_value())


def test_a_rotation_from_offer_to_done(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, store = boot(tmp_path, around)
    credentials.on_login(FIRST)

    credentials.on_offer(offer())
    asked = messages.RotationRequest(rotation_id=ID, proof=crypto.proof(FIRST.secret, "request", ID))
    assert around.take(topics.ROTATION_REQUEST) == [asked]
    credentials.on_secret(secret())
    stored = messages.RotationStored(
        rotation_id=ID,
        proof=crypto.proof(NEW, "stored", ID),
        current_proof=crypto.proof(FIRST.secret, "current", ID),
    )
    assert around.take(topics.ROTATION_STORED) == [stored]
    credentials.on_switch(messages.RotationSwitch(rotation_id=ID, generation=2))
    assert around.uplink.ending is Ending.SWITCH

    around.uplink.reset()
    trial = credentials.login_order()[0]
    assert trial.secret == NEW
    credentials.on_login(trial)
    ack = messages.RotationAck(rotation_id=ID, proof=crypto.proof(NEW, "ack", ID))
    assert around.take(topics.ROTATION_ACK) == [ack]
    credentials.on_done(messages.RotationDone(rotation_id=ID, generation=2))

    assert [slot.secret for slot in credentials.login_order()] == [NEW]
    assert store.slots.second is None
    assert around.take(topics.ROTATION_ACK, after_s=60) == []
    assert around.uplink.ending is None


def test_everything_is_said_again_until_it_is_answered(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, _ = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())

    assert len(around.take(topics.ROTATION_REQUEST)) == 1
    assert around.take(topics.ROTATION_REQUEST, after_s=4) == []
    assert len(around.take(topics.ROTATION_REQUEST, after_s=1)) == 1
    credentials.on_secret(secret())
    assert len(around.take(topics.ROTATION_STORED)) == 1
    assert len(around.take(topics.ROTATION_STORED, after_s=5)) == 1
    credentials.on_offer(offer())
    assert len(around.take(topics.ROTATION_STORED)) == 1


def test_asking_ends_at_the_deadline_and_a_late_secret_is_not_taken(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, store = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())

    assert around.take(topics.ROTATION_REQUEST, after_s=300) == []
    assert around.uplink.next_due() is None
    credentials.on_secret(secret())
    assert store.slots.second is None


def test_the_secret_is_durable_before_it_is_said_to_be_stored(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, _ = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    around.flush()
    credentials.on_secret(secret())
    around.flush()

    written = around.points.index("slots.fill_second:after")
    assert written < around.points.index("publish.rotation.stored:before")


def test_after_a_restart_the_device_goes_on_from_its_slots(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, _ = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    credentials.on_secret(secret())

    again = Surroundings()
    credentials, _ = boot(tmp_path, again)
    trial, first = credentials.login_order()
    credentials.on_refused(trial)
    credentials.on_login(first)

    assert len(again.take(topics.ROTATION_STORED)) == 1


def test_a_switch_right_after_a_refusal_is_postponed(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, _ = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    credentials.on_secret(secret())
    credentials.on_refused(credentials.login_order()[0])
    credentials.on_login(FIRST)

    credentials.on_switch(messages.RotationSwitch(rotation_id=ID, generation=2))
    assert around.uplink.ending is None
    around.flush(after_s=5)
    credentials.on_switch(messages.RotationSwitch(rotation_id=ID, generation=2))
    assert around.uplink.ending is Ending.SWITCH


def test_cancelled_under_the_new_secret_leads_back_to_the_old(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, store = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    credentials.on_secret(secret())
    credentials.on_login(credentials.login_order()[0])

    credentials.on_cancelled(messages.RotationCancelled(rotation_id=ID, reason="timeout"))

    assert store.slots.second is None
    assert around.uplink.ending is Ending.SWITCH
    assert credentials.login_order() == (FIRST,)


def test_cancelled_before_the_secret_came_stops_the_asking(tmp_path: Path) -> None:
    around = Surroundings()
    credentials, store = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())

    credentials.on_cancelled(messages.RotationCancelled(rotation_id=ID, reason="timeout"))
    credentials.on_secret(secret())

    assert around.take(topics.ROTATION_REQUEST) == []
    assert store.slots.second is None


def test_a_device_with_a_key_takes_only_what_is_sealed_for_it(tmp_path: Path) -> None:
    around = Surroundings()
    pair = crypto.new_key_pair()
    credentials, store = boot(tmp_path, around, pair=pair)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    (request,) = around.take(topics.ROTATION_REQUEST)

    assert request.public_key == crypto.public_half(pair)
    credentials.on_secret(secret())
    assert store.slots.second is None, "an open secret was not asked for"
    jwe = crypto.seal(NEW, request.public_key)
    credentials.on_secret(messages.RotationSecret(rotation_id=ID, generation=2, jwe=jwe[:-6] + "AAAAAA"))
    assert store.slots.second is None
    credentials.on_secret(messages.RotationSecret(rotation_id=ID, generation=2, jwe=jwe))
    assert store.slots.second == Slot(NEW, 2, ID)


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_newer_package_is_tried_last_and_adopted_on_the_servers_word(tmp_path: Path, confirmed: bool) -> None:
    newer = Slot(SecretStr("n" * 43), 4)
    boot(tmp_path, Surroundings())
    credentials, store = boot(tmp_path, Surroundings(), provisioned=newer)
    assert credentials.login_order() == (FIRST, newer)

    credentials.on_confirmed(4 if confirmed else 1)

    assert store.slots.first == (newer if confirmed else FIRST)


def test_neither_log_nor_event_shows_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    around = Surroundings()
    credentials, _ = boot(tmp_path, around)
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    credentials.on_secret(secret())
    credentials.on_offer(messages.RotationOffer.model_validate(offer().model_dump() | {"rotation_id": uuid4()}))

    shown = capsys.readouterr().out + repr(around.events)
    assert "rotation.stored" in shown
    assert NEW.get_secret_value() not in shown
    assert FIRST.secret.get_secret_value() not in shown


def test_tokens_are_asked_for_with_the_secret_of_the_login(tmp_path: Path) -> None:
    credentials, _ = boot(tmp_path, Surroundings())
    assert credentials.secret() == FIRST.secret
    credentials.on_login(FIRST)
    credentials.on_offer(offer())
    credentials.on_secret(secret())
    assert credentials.secret() == FIRST.secret
    credentials.on_login(credentials.login_order()[0])
    assert credentials.secret() == NEW
