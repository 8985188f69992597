"""Device and rotator by their real rules: messages are lost, doubled, late; either side dies at any moment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import BaseModel, SecretStr

from device.credentials import Credentials
from device.options import Options
from device.rotation import Slot
from device.slots import FILE_NAME, SlotStore
from device.uplink import Ending
from shared import crypto, messages, topics
from tests.unit.device.kit import CLIENT_ID, Killed, Surroundings
from tests.unit.device.model_server import Server

OPTIONS = Options(retry_s=5.0)
POINTS = [
    *(
        f"slots.{name}:{at}"
        for name in ("fill_second", "promote", "discard_second")
        for at in ("before", "written", "after")
    ),
    *(f"publish.rotation.{name}:{at}" for name in ("request", "stored", "ack") for at in ("before", "after")),
]
DOWN: dict[type[BaseModel], str] = {
    messages.RotationOffer: "on_offer",
    messages.RotationSecret: "on_secret",
    messages.RotationSwitch: "on_switch",
    messages.RotationDone: "on_done",
    messages.RotationCancelled: "on_cancelled",
}


class Fleet(RuleBasedStateMachine):
    """One real credential store on a real disk, between a lossy network and an honest server."""

    @initialize()
    def provision(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.first = Slot(SecretStr("provisioned" * 4), 1)
        self.server = Server(self.first)
        self.around = Surroundings()
        self.boot()

    def boot(self) -> None:
        time_s = self.around.time_s
        self.around = Surroundings()
        self.around.time_s = time_s
        store = SlotStore(Path(self.folder.name), self.first, fault=self.around.hooks.fault)
        self.credentials = Credentials(store, self.first, self.around.uplink, OPTIONS)
        self.connected = False

    def live(self) -> None:
        """Send what is due, and obey what the device decided."""
        try:
            self.around.flush()
        except Killed:
            self.boot()
            return
        for topic, payload in self.around.link.sent:
            for known in (topics.ROTATION_REQUEST, topics.ROTATION_STORED, topics.ROTATION_ACK):
                if topic == known.of(client_id=CLIENT_ID):
                    self.server.up.append(known.decode(payload))
        self.around.link.sent.clear()
        if self.around.uplink.ending is Ending.SWITCH:
            self.connected = False

    def hand_over(self, message: BaseModel) -> None:
        try:
            if isinstance(message, messages.Config):
                self.credentials.on_confirmed(message.secret_generation)
            else:
                getattr(self.credentials, DOWN[type(message)])(message)
        except Killed:
            self.boot()
            return
        self.live()

    @precondition(lambda self: not self.connected)
    @rule(heard=st.booleans())
    def log_in(self, heard: bool = True) -> None:
        """Log in with the first secret that the broker takes; the server need not have `heard` which."""
        self.around.uplink.reset()
        for slot in self.credentials.login_order():
            if slot.secret == self.server.in_force.secret:
                self.connected = True
                self.server.says = slot.generation if heard else self.server.says
                self.credentials.on_login(slot)
                self.live()
                return
            self.credentials.on_refused(slot)
        raise AssertionError("locked out")

    @rule(seconds=st.sampled_from([1.0, 5.0, 301.0]))
    def time_passes(self, seconds: float) -> None:
        self.around.time_s += seconds
        if self.connected:
            self.live()

    @rule()
    def power_fails(self) -> None:
        self.boot()

    @rule(point=st.sampled_from(POINTS))
    def power_will_fail_at(self, point: str) -> None:
        self.around.kill_at = point

    @rule()
    def connection_breaks(self) -> None:
        self.connected = False

    @rule(step=st.sampled_from(["DELIVERED", "STORED", "SWITCHING", "SWITCHED", "DONE"]), heard=st.booleans())
    def a_rotation_goes_well_up_to(self, step: str, heard: bool = True) -> None:
        """Without this rule few walks come as far as a second rotation."""
        if self.server.open is None:
            self.server.offer(self.around.now())
        rotation = self.server.open
        assert rotation is not None
        self.go_well(12, until=lambda: rotation.outcome is not None or rotation.step == step, heard=heard)

    @precondition(lambda self: self.server.open is not None)
    @rule(success=st.booleans())
    def a_rotation_ends_without_a_word(self, success: bool) -> None:
        if success:
            self.a_rotation_goes_well_up_to("DONE")
        self.server.expire()
        while self.server.open is not None:
            self.connected = not self.server.advance() and self.connected
        self.what_is_under_way_is_lost()

    def go_well(self, rounds: int, *, until: Callable[[], bool] = bool, heard: bool = True) -> None:
        """Let everything arrive, and stop as soon as `until`."""
        for _ in range(rounds):
            if not self.connected:
                self.log_in(heard)
            self.time_passes(5.0)
            while self.server.up and not until():
                self.server.take(self.server.up.pop(0))
            if until():
                return
            if self.server.advance():
                self.connected = False
            while self.server.down and self.connected and not until():
                self.hand_over(self.server.down.pop(0))

    @precondition(lambda self: self.server.said and self.connected)
    @rule(pick=st.integers(min_value=0))
    def an_old_message_comes_again(self, pick: int) -> None:
        self.hand_over(_pick(self.server.said, pick, keep=True))

    @precondition(lambda self: self.server.open is None)
    @rule()
    def server_offers(self) -> None:
        self.server.offer(self.around.now())

    @rule()
    def server_goes_on(self) -> None:
        if self.server.advance():
            self.connected = False

    @rule()
    def server_goes_on_while_the_device_is_away(self) -> None:
        self.connected = False
        for _ in range(4):
            self.server.advance()

    @rule()
    def server_gives_up(self) -> None:
        self.server.expire()

    @rule()
    def admin_calls_it_off(self) -> None:
        self.server.cancel()

    @rule()
    def leader_dies(self) -> None:
        self.server.die()

    @precondition(lambda self: self.server.open is not None)
    @rule(purpose=st.sampled_from(["stored", "ack"]))
    def a_forged_proof_comes(self, purpose: Literal["stored", "ack"]) -> None:
        """Neither the secret in force nor a proof made for the other purpose gets a rotation anywhere."""
        rotation = self.server.open
        assert rotation is not None
        other: Literal["stored", "ack"] = "ack" if purpose == "stored" else "stored"
        new = self.server.slots[rotation.generation].secret
        before = (rotation.step, rotation.refused_proofs)
        for proof in (
            crypto.proof(self.server.confirmed.secret, purpose, rotation.id),
            crypto.proof(new, other, rotation.id),
        ):
            kind = messages.RotationStored if purpose == "stored" else messages.RotationAck
            self.server.take(kind(rotation_id=rotation.id, proof=proof))
        assert (rotation.step, rotation.refused_proofs) == (before[0], before[1] + 2)

    @rule()
    def server_pushes_a_configuration(self) -> None:
        self.server.say(self.server.config())

    @precondition(lambda self: self.server.up)
    @rule(pick=st.integers(min_value=0), doubled=st.booleans())
    def server_receives(self, pick: int, doubled: bool) -> None:
        self.server.take(_pick(self.server.up, pick, keep=doubled))

    @precondition(lambda self: self.server.down and self.connected)
    @rule(pick=st.integers(min_value=0), doubled=st.booleans())
    def device_receives(self, pick: int, doubled: bool) -> None:
        self.hand_over(_pick(self.server.down, pick, keep=doubled))

    @precondition(lambda self: self.server.down or self.server.up)
    @rule()
    def what_is_under_way_is_lost(self) -> None:
        self.server.down.clear()
        self.server.up.clear()

    @invariant()
    def one_slot_works(self) -> None:
        document = json.loads((Path(self.folder.name) / FILE_NAME).read_text())
        secrets = {slot["secret"] for slot in document.values() if slot is not None}
        assert self.server.in_force.secret.get_secret_value() in secrets
        assert self.server.confirmed.secret.get_secret_value() in secrets

    def teardown(self) -> None:
        with self.folder:
            self.settle()

    def settle(self) -> None:
        """Once nothing is lost any more, device and server agree within a few rounds."""
        self.around.kill_at = None
        self.go_well(20)
        self.server.expire()
        self.go_well(20)
        self.server.say(self.server.config())
        self.go_well(5)
        document = json.loads((Path(self.folder.name) / FILE_NAME).read_text())
        assert document["second"] is None
        assert document["first"]["secret"] == self.server.confirmed.secret.get_secret_value()
        self.server.check_ended()


def _pick(bag: list[BaseModel], pick: int, *, keep: bool) -> BaseModel:
    at = pick % len(bag)
    return bag[at] if keep else bag.pop(at)


Fleet.TestCase.settings = settings(
    max_examples=2000,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestEveryInterleaving = Fleet.TestCase
