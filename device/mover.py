"""The device's choice of a connection profile: applies the pure rules to the store."""

from __future__ import annotations

from typing import Final

from joserfc.jwk import OKPKey
from pydantic import JsonValue, ValidationError

from device import connection
from device.connection import OfferedProfile, StoredProfile
from device.connection_store import ConnectionStore
from device.link import trust_of
from device.options import Options
from device.uplink import Ending, Uplink
from shared import crypto
from shared.errors import InvalidInputError
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import ConnectionProfile, ConnectionState
from shared.protocol.topics import Topic, explain


class OfferToRead(messages.Message):
    """`down/connection`, whose profile may break a rule: then it is rejected, instead of dropped."""

    connection_id: messages.ConnectionId
    trial_seconds: messages.TrialSeconds
    profile: dict[str, JsonValue] | None = None
    jwe: str | None = None


OFFER: Final = Topic(topics.CONNECTION.template, OfferToRead)


class Mover:
    """The connection profiles of a device: which one to use now, and how it changes to another one.

    All times are on the hooks' clock, in seconds.
    """

    def __init__(
        self, store: ConnectionStore, package: Package, uplink: Uplink, options: Options, *, pair: OKPKey | None
    ) -> None:
        """Start with the stored profiles: end a trial, take a new package's profile, pass the turn."""
        self._store = store
        self._package = package
        self._uplink = uplink
        self._options = options
        self._pair = pair
        self._trial_by = 0.0
        was_on_trial = self.on_trial
        store.start(connection.of_package(package), starts_max=options.fallback_starts)
        if was_on_trial:
            self._record_refused()
        now = uplink.hooks.clock()
        self._count_at: float | None = now + options.answer_timeout_s
        self._lost_since: float | None = now
        self._silent_since: float | None = None

    @property
    def profile(self) -> StoredProfile:
        """The profile to connect with."""
        return connection.in_use(self._store.slots)

    @property
    def package(self) -> Package:
        """The package with the profile to connect with."""
        return connection.applied(self._package, self.profile)

    @property
    def on_trial(self) -> bool:
        """Whether the profile to connect with is on trial."""
        return self._store.slots.trial is not None

    @property
    def is_busy(self) -> bool:
        """Whether the device must stay awake."""
        return self.on_trial

    @property
    def due_at(self) -> float | None:
        """When `on_time` has something to do, or None."""
        if self.on_trial:
            return self._trial_by
        if self._store.slots.fallback is None:
            return None
        times = (
            self._count_at,
            None if self._lost_since is None else self._lost_since + self._options.fallback_after_s,
            None if self._silent_since is None else self._silent_since + self._options.silent_after_s,
        )
        return min((time for time in times if time is not None), default=None)

    def on_time(self) -> None:
        """Revert a trial, count this start, or pass the turn to the other profile."""
        if self.on_trial:
            self._store.revert("no request was answered in time")
            self._record_refused()
            self._change()
        elif self._count_at is not None and self._uplink.hooks.clock() >= self._count_at:
            self._count_at = None
            self._store.count()
        else:
            self._store.turn()
            self._uplink.record("connection.turned", connection_id=self.profile.connection_id)
            self._change()

    def on_connected(self) -> None:
        """Note a login."""
        self._lost_since = None

    def on_lost(self) -> None:
        """Note the end of a connection."""
        if self._lost_since is None:
            self._lost_since = self._uplink.hooks.clock()

    def on_request(self) -> ConnectionState:
        """Return the state to send with a request, which is to be answered."""
        if self._silent_since is None:
            self._silent_since = self._uplink.hooks.clock()
        return connection.state(self._store.slots)

    def on_answered(self) -> bool:
        """Note an answer to the device's own request; return whether it has ended a trial."""
        moved = self.on_trial
        self._count_at = self._silent_since = None
        self._store.answer()
        if moved:
            self._uplink.record("connection.moved", connection_id=self.profile.connection_id)
        return moved

    def on_offer(self, offer: OfferToRead, *, busy: bool) -> bool:
        """Begin the trial of a profile, which ends the connection; return whether it is newly rejected instead.

        With `busy`, something else is on trial: the offer comes again.
        """
        slots, connection_id = self._store.slots, offer.connection_id
        verdict = connection.judge(slots, connection_id, busy=busy)
        if verdict is not OfferedProfile.TRY:
            self._uplink.record("connection.offered", connection_id=connection_id, verdict=verdict.value)
            return False
        try:
            profile = connection.of_offer(connection_id, self._read(offer))
            trust_of(connection.applied(self._package, profile))
        except InvalidInputError as error:
            self._store.reject(connection_id, error.message)
            self._record_refused()
            return self._store.slots.refused != slots.refused
        self._store.put_on_trial(profile)
        self._trial_by = self._uplink.hooks.clock() + offer.trial_seconds
        self._uplink.record("connection.on_trial", connection_id=connection_id, trial_seconds=offer.trial_seconds)
        self._change()
        return False

    def _read(self, offer: OfferToRead) -> ConnectionProfile:
        try:
            if offer.jwe is None:
                return ConnectionProfile.model_validate(offer.profile)
            if self._pair is None:
                raise InvalidInputError("jwe: this device has no key")
            return ConnectionProfile.model_validate_json(crypto.unseal(offer.jwe, self._pair).get_secret_value())
        except ValidationError as error:
            # No cause: it would show the input, and with it the passwords.
            raise InvalidInputError(explain(error)) from None
        except crypto.SecretUnreadableError:
            raise InvalidInputError("jwe: cannot be opened with this device's key") from None

    def _change(self) -> None:
        """Connect with another profile, which has all its time."""
        self._lost_since, self._silent_since = self._uplink.hooks.clock(), None
        self._uplink.end(Ending.SWITCH)

    def _record_refused(self) -> None:
        refused = self._store.slots.refused
        if refused is not None:
            self._uplink.record(
                f"connection.{refused.outcome}", connection_id=refused.connection_id, reason=refused.reason
            )
