"""The device's side of a rotation: applies the pure rules to the store, and sends the messages that are due."""

from __future__ import annotations

from typing import Final

from joserfc.jwk import OKPKey
from pydantic import SecretStr

from device import rotation
from device.options import Options
from device.rotation import Due, Slot, SlotChange, Wanted
from device.server_clock import ServerClock
from device.slots import SlotStore
from device.uplink import Ending, Outgoing, Uplink
from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.admin import Package

_KEY: Final = "rotation"


class Credentials:
    """The device's secrets: which one to log in with, and how to get a new one without losing the old."""

    def __init__(
        self,
        store: SlotStore,
        provisioned: Slot,
        uplink: Uplink,
        clock: ServerClock,
        options: Options,
        *,
        pair: OKPKey | None = None,
    ) -> None:
        """Use the device's key pair, for which new secrets are sealed; None: an old device, which has none."""
        self._store = store
        self._provisioned = provisioned
        self._uplink = uplink
        self._clock = clock
        self._options = options
        self._wanted: Wanted | None = None
        self._pair = pair
        self._refused_until = 0.0
        self.login: int | None = None
        """The generation of the secret that the device is logged in with."""

    @property
    def is_busy(self) -> bool:
        """Whether a rotation is in progress."""
        return self._wanted is not None or self._store.slots.second is not None

    def login_order(self) -> tuple[Slot, ...]:
        """Return the secrets to try, best first; a newer one in the package only after the slots."""
        slots = self._store.slots
        spare = rotation.spare(slots, self._provisioned)
        return rotation.login_order(slots) if spare is None else (*rotation.login_order(slots), spare)

    def secret(self) -> SecretStr:
        """Return the secret that the device is logged in with, else the best one."""
        order = self.login_order()
        return next((slot.secret for slot in order if slot.generation == self.login), order[0].secret)

    def on_refused(self, slot: Slot) -> None:
        """Record when the broker last refused a secret."""
        self._refused_until = self._uplink.hooks.clock() + self._options.retry_s
        self._uplink.record("login.refused", generation=slot.generation)

    def on_recovered(self, package: Package) -> None:
        """Store the recovered secret; it is tried at the next login."""
        self._store.recover(Slot(SecretStr(package.secret), package.secret_generation))
        self._uplink.record("login.recovered", generation=package.secret_generation)

    def on_login(self, slot: Slot) -> None:
        """Begin the messages that are due according to the slots."""
        self.login = slot.generation
        self._begin_due()

    def on_offer(self, offer: messages.RotationOffer) -> None:
        """Accept a new secret, answer for one that is stored already, or ignore an outdated offer."""
        answer = rotation.on_offer(self._store.slots, self._wanted, offer, now=self._clock.now())
        self._wanted = answer.wanted
        self._uplink.record(
            "rotation.offered",
            rotation_id=str(offer.rotation_id),
            generation=offer.generation,
            current_generation=offer.current_generation,
            verdict=answer.verdict.value,
        )
        self._settle(answer.change)
        if rotation.is_ours(answer.verdict):
            self._begin_due()

    def on_secret(self, message: messages.RotationSecret) -> None:
        """Store the requested secret durably, and only then report so."""
        rotation_id = message.rotation_id
        if not rotation.takes_secret(self._store.slots, self._wanted, message, now=self._clock.now()):
            self._uplink.record("rotation.secret_ignored", rotation_id=str(rotation_id))
            return
        secret = self._open(message)
        if secret is None:
            self._uplink.record("rotation.secret_unreadable", rotation_id=str(rotation_id))
            return
        self._store.fill_second(Slot(secret, message.generation, rotation_id))
        self._wanted = None
        self._uplink.record("rotation.stored", rotation_id=str(rotation_id), generation=message.generation)
        self._begin_due()

    def on_switch(self, message: messages.RotationSwitch) -> None:
        """Log in again with the second slot."""
        if not rotation.must_switch(self._store.slots, self.login, message.rotation_id):
            return
        if self._uplink.hooks.clock() < self._refused_until:
            # A broker that refuses the announced secret must not cause an endless loop.
            self._uplink.record("rotation.switch_postponed", rotation_id=str(message.rotation_id))
            return
        self._uplink.record("rotation.switching", rotation_id=str(message.rotation_id))
        self._uplink.end(Ending.SWITCH)

    def on_done(self, message: messages.RotationDone) -> None:
        """Promote the second slot."""
        self._settle(rotation.on_done(self._store.slots, message.rotation_id))

    def on_confirmed(self, generation: int) -> None:
        """Promote the second slot if a later message of the server replaces a lost `done`."""
        spare = rotation.spare(self._store.slots, self._provisioned)
        if spare is not None and spare.generation == generation:
            self._store.adopt(spare)
            self._uplink.record("rotation.adopted", generation=generation)
            return
        self._settle(rotation.on_confirmed(self._store.slots, generation))

    def on_cancelled(self, message: messages.RotationCancelled) -> None:
        """Abandon the rotation; the old secret is in force."""
        if self._wanted is not None and self._wanted.rotation_id == message.rotation_id:
            self._wanted = None
            self._uplink.stop(_KEY)
        self._settle(rotation.on_cancelled(self._store.slots, message.rotation_id))

    def _settle(self, change: SlotChange) -> None:
        if change is SlotChange.KEEP:
            return
        second = self._store.slots.second
        if change is SlotChange.PROMOTE:
            self._store.promote()
        else:
            self._store.discard_second()
        self._uplink.stop(_KEY)
        name = "rotation.promoted" if change is SlotChange.PROMOTE else "rotation.discarded"
        self._uplink.record(name, generation=None if second is None else second.generation)
        if rotation.is_orphan(self._store.slots, self.login):
            self._uplink.end(Ending.SWITCH)

    def _begin_due(self) -> None:
        self._uplink.repeat(_KEY, self._next_message, every_s=self._options.retry_s, slowing=True)

    def _next_message(self) -> Outgoing | None:
        slots, wanted = self._store.slots, self._wanted
        due = rotation.due(slots, wanted, self.login, now=self._clock.now())
        if due is Due.REQUEST and wanted is not None:
            return topics.ROTATION_REQUEST, self._request(wanted)
        second = slots.second
        if due is None or second is None or second.rotation_id is None:
            return None
        if due is Due.ACK:
            proof = self._uplink.hooks.proof(second.secret, "ack", second.rotation_id)
            return topics.ROTATION_ACK, messages.RotationAck(rotation_id=second.rotation_id, proof=proof)
        return topics.ROTATION_STORED, messages.RotationStored(
            rotation_id=second.rotation_id,
            proof=self._uplink.hooks.proof(second.secret, "stored", second.rotation_id),
            current_proof=self._uplink.hooks.proof(slots.first.secret, "current", second.rotation_id),
        )

    def _request(self, wanted: Wanted) -> messages.RotationRequest:
        first = self._store.slots.first
        return messages.RotationRequest(
            rotation_id=wanted.rotation_id,
            public_key=None if self._pair is None else crypto.public_half(self._pair),
            proof=self._uplink.hooks.proof(first.secret, "request", wanted.rotation_id),
        )

    def _open(self, message: messages.RotationSecret) -> SecretStr | None:
        if self._pair is None:
            return None if message.secret is None else SecretStr(message.secret)
        if message.jwe is None:
            return None  # a device with a key accepts sealed secrets only
        try:
            secret = crypto.unseal(message.jwe, self._pair)
        except (crypto.SecretUnreadableError, UnicodeDecodeError):
            return None
        return secret if secret.get_secret_value() else None
