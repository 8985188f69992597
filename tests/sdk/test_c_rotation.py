"""The rules of the slots in C do what device/rotation.py does, message by message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from device import rotation
from device.rotation import Due, Slot, SlotChange, Slots, Wanted
from shared import crypto
from shared.protocol import messages
from tests.sdk.core import Action, Core, said
from tests.sdk.packages import SECRET, key_of, package

IDS = [UUID(int=number) for number in range(1, 4)]
START = datetime(2026, 11, 25, 15, tzinfo=UTC)
TOPICS = {Due.REQUEST: "rotation/request", Due.STORED: "rotation/stored", Due.ACK: "rotation/ack"}

generations = st.integers(1, 5)
Offer = st.builds(
    messages.RotationOffer,
    rotation_id=st.sampled_from(IDS),
    deadline=st.sampled_from([START, START + timedelta(minutes=5)]),
    generation=generations,
    current_generation=generations,
)
Secret = st.builds(
    messages.RotationSecret, rotation_id=st.sampled_from(IDS), generation=generations, jwe=st.just("sealed")
)
Told = st.one_of(
    *(
        st.builds(kind, rotation_id=st.sampled_from(IDS), generation=generations)
        for kind in (messages.RotationSwitch, messages.RotationDone)
    ),
    st.builds(messages.RotationCancelled, rotation_id=st.sampled_from(IDS), reason=st.just("over")),
    st.builds(
        messages.Config,
        version=st.just(1),
        unchanged=st.just(value=True),
        secret_generation=generations,
        time=st.sampled_from([None, START - timedelta(seconds=1), START + timedelta(minutes=1)]),
    ),
)


def secret_of(rotation_id: UUID, generation: int) -> str:
    return f"secret-{rotation_id}-{generation}"


@dataclass
class Model:
    """The reference device's slots, by its pure rules."""

    slots: Slots
    wanted: Wanted | None = None
    login: int = 1
    now: datetime | None = None
    anew: bool = False
    """Whether it logs in again."""

    def settle(self, change: SlotChange) -> None:
        if change is SlotChange.KEEP:
            return
        self.slots = (
            rotation.promoted(self.slots) if change is SlotChange.PROMOTE else rotation.discarded(self.slots)
        )
        self.anew |= rotation.is_orphan(self.slots, self.login)

    def take(self, message: object) -> None:
        match message:
            case messages.RotationOffer():
                answer = rotation.on_offer(self.slots, self.wanted, message, now=self.now)
                self.wanted = answer.wanted
                self.settle(answer.change)
            case messages.RotationSecret():
                if rotation.takes_secret(self.slots, self.wanted, message, now=self.now):
                    text = SecretStr(secret_of(message.rotation_id, message.generation))
                    self.slots = rotation.filled(self.slots, Slot(text, message.generation, message.rotation_id))
                    self.wanted = None
            case messages.RotationSwitch():
                self.anew |= rotation.must_switch(self.slots, self.login, message.rotation_id)
            case messages.RotationDone():
                self.settle(rotation.on_done(self.slots, message.rotation_id))
            case messages.RotationCancelled():
                if self.wanted is not None and self.wanted.rotation_id == message.rotation_id:
                    self.wanted = None
                self.settle(rotation.on_cancelled(self.slots, message.rotation_id))
            case messages.Config():
                if message.time is not None and (self.now is None or message.time > self.now):
                    self.now = message.time
                self.settle(rotation.on_confirmed(self.slots, message.secret_generation))

    @property
    def due(self) -> Due | None:
        return rotation.due(self.slots, self.wanted, self.login, now=self.now)


def topic_of(message: object) -> str:
    if isinstance(message, messages.Config):
        return "config"
    return "rotation/" + type(message).__name__.removeprefix("Rotation").lower()


def seen(core: Core) -> list[tuple[str, int, str]]:
    def text(value: object) -> str:
        return str(core.ffi.string(value).decode())

    slots = [core.slots.first, core.slots.second]
    return [(text(it.secret), it.generation, text(it.rotation_id)) for it in slots if text(it.secret)]


def expected(slots: Slots) -> list[tuple[str, int, str]]:
    there = [slots.first] if slots.second is None else [slots.first, slots.second]
    return [(it.secret.get_secret_value(), it.generation, str(it.rotation_id or "")) for it in there]


def log_in_again(core: Core, model: Model, actions: list[Action], *, refuse: bool) -> list[Action]:
    """Accept the login that the core has begun, or its second one, and compare which secrets it tries."""
    for slot in rotation.login_order(model.slots):
        (login,) = [action.login for action in actions if action.kind == "CONNECT"]
        assert login["password"] == slot.secret.get_secret_value()
        if not refuse or slot is model.slots.first:
            model.login = slot.generation
            break
        core.lib.mdm_on_refused(core.m)
        actions = core.run()
    model.anew = False
    core.m.refused_until = 0
    return core.accept()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.one_of(Offer, Secret, Told), st.booleans(), st.booleans()), min_size=1, max_size=14))
def test_every_walk_of_messages_leads_to_the_same_slots(walk: list[tuple[object, bool, bool]]) -> None:
    core = Core({"package": package()})
    core.log_in()
    model = Model(Slots(Slot(SecretStr(SECRET), 1)))
    for message, refuse, restart in walk:
        sent = message
        if isinstance(message, messages.RotationSecret):
            text = SecretStr(secret_of(message.rotation_id, message.generation))
            sent = replace_jwe(message, crypto.seal(text, crypto.public_half(key_of(core))))
        assert isinstance(sent, messages.Message)
        actions = core.message(topic_of(message), sent.model_dump_json(exclude_none=True).encode())
        model.take(message)
        assert seen(core) == expected(model.slots)
        assert any(action.kind == "DISCONNECT" for action in actions) == model.anew
        if model.anew:
            actions = log_in_again(core, model, actions, refuse=refuse)
        elif restart:
            core = Core(core.records)
            model = replace(model, wanted=None, now=None)
            actions = log_in_again(core, model, core.run(), refuse=refuse)
        assert seen(core) == expected(model.slots)
        repeated = core.later(61_000)
        model.now = None if model.now is None else model.now + timedelta(seconds=61)
        assert [due for due, topic in TOPICS.items() if said(repeated, topic)] == [it for it in [model.due] if it]


def replace_jwe(message: messages.RotationSecret, jwe: str) -> messages.RotationSecret:
    return message.model_copy(update={"jwe": jwe})
