from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device import connection
from device.connection import ConnectionSlots, OfferedProfile, StoredProfile
from device.connection_store import FILE_NAME, ConnectionStore
from device.slots import StateUnreadableError
from shared.errors import IllegalTransitionError
from shared.protocol.messages import ConnectionState, RefusedConnection, WifiNetwork
from tests.unit.device.kit import Killed, Surroundings, package

STARTS = 6
PACKAGED = connection.of_package(package())


def profile(number: int) -> StoredProfile:
    return replace(PACKAGED, connection_id=f"{number:016x}", mqtt_port=2000 + number)


A, B, C = (profile(number) for number in (1, 2, 3))
LONE = connection.begun(A)
WORKING = connection.answered(LONE)
MOVED = connection.answered(connection.tried(WORKING, B))


def reported(slots: ConnectionSlots) -> ConnectionState:
    return connection.state(slots)


def test_only_an_answer_over_the_new_profile_makes_it_the_first() -> None:
    on_trial = connection.tried(WORKING, B)

    assert connection.in_use(on_trial) == B
    assert (on_trial.first, on_trial.fallback) == (A, None)
    moved = connection.answered(on_trial)
    assert (moved.first, moved.fallback, moved.trial) == (B, A, None)
    assert reported(moved) == ConnectionState(
        first=B.connection_id, fallback=A.connection_id, in_use=B.connection_id
    )


def test_a_trial_that_fails_leaves_all_as_it_was_and_is_reported() -> None:
    failed = connection.reverted(connection.tried(MOVED, C), "no answer")

    assert replace(failed, refused=None) == MOVED
    assert C.connection_id is not None
    assert failed.refused == RefusedConnection(
        connection_id=C.connection_id, outcome="reverted", reason="no answer"
    )


def test_an_offer_before_the_first_answer_does_not_cost_the_profile_that_it_came_over() -> None:
    assert connection.answered(connection.tried(LONE, B)).fallback == A


def test_a_restart_ends_a_trial() -> None:
    again = connection.started(connection.tried(WORKING, B), A, starts_max=STARTS)

    assert (connection.in_use(again), again.trial) == (A, None)
    assert again.refused is not None
    assert again.refused.reason == "the device restarted during the trial"


def test_what_was_refused_is_forgotten_when_it_is_kept_and_not_before() -> None:
    failed = connection.reverted(connection.tried(WORKING, B), "no answer")

    assert connection.answered(connection.tried(failed, C)).refused == failed.refused
    assert connection.answered(connection.tried(failed, B)).refused is None


def test_a_move_from_the_fallback_keeps_the_fallback_and_not_the_first_that_is_gone() -> None:
    on_fallback = connection.answered(connection.turned(MOVED))

    moved = connection.answered(connection.tried(on_fallback, C))

    assert (moved.first, moved.fallback, connection.in_use(moved)) == (C, A, C)


def test_the_first_may_be_offered_again_to_a_device_on_its_fallback() -> None:
    on_fallback = connection.answered(connection.turned(MOVED))
    assert B.connection_id is not None

    assert connection.judge(on_fallback, B.connection_id, busy=False) is OfferedProfile.TRY
    assert connection.answered(connection.tried(on_fallback, B)) == MOVED


def test_an_offer_of_the_profile_in_use_means_nothing_and_one_during_a_trial_waits() -> None:
    on_trial = connection.tried(WORKING, B)
    ids = [str(it.connection_id) for it in (A, B, C)]

    assert connection.judge(WORKING, ids[0], busy=True) is OfferedProfile.IN_USE
    assert connection.judge(WORKING, ids[1], busy=True) is OfferedProfile.POSTPONE
    assert connection.judge(WORKING, ids[1], busy=False) is OfferedProfile.TRY
    assert connection.judge(on_trial, ids[1], busy=False) is OfferedProfile.IN_USE
    assert [connection.judge(on_trial, it, busy=False) for it in (ids[0], ids[2])] == [OfferedProfile.POSTPONE] * 2


def test_a_new_package_is_the_first_and_what_worked_last_the_fallback() -> None:
    flashed = connection.started(MOVED, C, starts_max=STARTS)
    assert (flashed.first, flashed.fallback, connection.in_use(flashed)) == (C, B, C)

    on_fallback = connection.answered(connection.turned(MOVED))
    flashed = connection.started(on_fallback, C, starts_max=STARTS)
    assert (flashed.first, flashed.fallback, connection.in_use(flashed)) == (C, A, C)

    assert connection.started(flashed, B, starts_max=STARTS).fallback == A, "C has never worked"
    assert connection.started(LONE, B, starts_max=STARTS).fallback is None, "A has never worked"


def test_a_package_with_the_settings_of_the_first_only_names_it() -> None:
    nameless = replace(B, connection_id=None)

    flashed = connection.started(MOVED, nameless, starts_max=STARTS)

    assert (flashed.first, flashed.fallback) == (nameless, A)


def test_a_profile_that_only_has_another_id_does_not_cost_the_fallback() -> None:
    renamed = replace(B, connection_id=C.connection_id)

    assert connection.answered(connection.tried(MOVED, renamed)).fallback == A


def test_the_same_package_is_no_new_one_at_each_start() -> None:
    assert connection.started(MOVED, A, starts_max=STARTS) == MOVED


def test_the_turn_passes_after_so_many_starts_without_an_answer() -> None:
    slots = MOVED
    for _ in range(STARTS):
        slots = connection.started(slots, A, starts_max=STARTS)
        assert connection.in_use(slots) == B
        slots = connection.counted(slots)
    slots = connection.started(slots, A, starts_max=STARTS)

    assert (connection.in_use(slots), slots.starts) == (A, 0)
    assert connection.answered(connection.counted(slots)).starts == 0


def test_an_illegal_change_raises() -> None:
    with pytest.raises(IllegalTransitionError, match="no connection profile is on trial"):
        connection.reverted(WORKING, "why")
    with pytest.raises(IllegalTransitionError, match="another connection profile is on trial"):
        connection.tried(connection.tried(WORKING, B), C)
    with pytest.raises(IllegalTransitionError, match="no other connection profile"):
        connection.turned(WORKING)
    with pytest.raises(IllegalTransitionError, match="no other connection profile"):
        connection.turned(connection.tried(MOVED, C))


def test_a_profile_takes_the_place_of_the_packages_and_leaves_its_identity() -> None:
    networks = [WifiNetwork(ssid="home", password="12345678")]
    provisioned = package(wifi=networks)

    applied = connection.applied(provisioned, replace(B, ca_certificate="PEM", mqtt_tls=True))

    assert (applied.mqtt_port, applied.mqtt_tls, applied.ca_certificate) == (2002, True, "PEM")
    assert (applied.client_id, applied.secret, applied.wifi) == (
        provisioned.client_id,
        provisioned.secret,
        networks,
    )
    assert connection.applied(provisioned, connection.of_package(provisioned)) == provisioned


class ProfilesMachine(RuleBasedStateMachine):
    """A device in a world in which brokers come and go, and which is interrupted whenever."""

    numbers = st.integers(0, 4)

    @initialize(number=numbers)
    def begin(self, number: int) -> None:
        self.package = profile(number)
        self.slots = connection.begun(self.package)
        self.alive = {number}
        self.worked: StoredProfile | None = None
        self.legal_first = self.package

    def _lives(self, one: StoredProfile) -> bool:
        return one.mqtt_port - 2000 in self.alive

    @rule(number=numbers)
    def broker_comes(self, number: int) -> None:
        self.alive.add(number)

    @rule(number=numbers)
    def broker_goes(self, number: int) -> None:
        self.alive.discard(number)

    @precondition(lambda self: self._lives(connection.in_use(self.slots)))
    @rule(number=numbers, busy=st.booleans())
    def offer(self, number: int, busy: bool) -> None:
        one = profile(number)
        if connection.judge(self.slots, str(one.connection_id), busy=busy) is OfferedProfile.TRY:
            self.worked = connection.in_use(self.slots)
            self.slots = connection.tried(self.slots, one)

    @rule(number=numbers)
    def offer_what_cannot_be_used(self, number: int) -> None:
        self.slots = connection.rejected(self.slots, str(profile(number).connection_id), "no room")

    @precondition(lambda self: self._lives(connection.in_use(self.slots)))
    @rule()
    def answer(self) -> None:
        self.worked = connection.in_use(self.slots)
        if self.slots.trial is not None:
            self.legal_first = self.slots.trial
        self.slots = connection.answered(self.slots)

    @precondition(lambda self: self.slots.trial is not None)
    @rule()
    def time_is_up(self) -> None:
        self.slots = connection.reverted(self.slots, "no answer")

    @precondition(lambda self: self.slots.fallback is not None and self.slots.trial is None)
    @rule()
    def turn(self) -> None:
        self.slots = connection.turned(self.slots)

    @rule()
    def count(self) -> None:
        self.slots = connection.counted(self.slots)

    @rule()
    def restart(self) -> None:
        self.slots = connection.started(self.slots, self.package, starts_max=STARTS)
        assert self.slots.trial is None

    @rule(number=numbers)
    def flash(self, number: int) -> None:
        if profile(number) != self.package:
            self.package = self.legal_first = profile(number)
        self.restart()

    @invariant()
    def what_worked_last_is_kept(self) -> None:
        assert self.worked in {None, self.slots.first, self.slots.fallback}

    @invariant()
    def only_a_proof_or_a_package_makes_a_first(self) -> None:
        assert self.slots.first == self.legal_first

    @invariant()
    def both_have_their_turn_by_restarts_alone(self) -> None:
        slots, used = self.slots, set()
        for _ in range(2 * (STARTS + 1)):
            slots = connection.counted(connection.started(slots, self.package, starts_max=STARTS))
            used.add(connection.in_use(slots))
        assert used == {slots.first, slots.fallback} - {None}


TestProfilesMachine = ProfilesMachine.TestCase


def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    wifi = (WifiNetwork(ssid="home", password="12345678"),)
    store = ConnectionStore(tmp_path, PACKAGED)
    store.answer()
    store.put_on_trial(replace(B, wifi=wifi))
    store.reject(str(C.connection_id), "no room")

    assert ConnectionStore(tmp_path, PACKAGED).slots == store.slots
    assert store.slots.trial is not None
    assert store.slots.trial.wifi == wifi
    assert "12345678" not in repr(store.slots)


def test_a_change_of_nothing_is_not_written(tmp_path: Path) -> None:
    around = Surroundings()
    store = ConnectionStore(tmp_path, PACKAGED, fault=around.hooks.fault)
    store.answer()
    around.points.clear()

    store.answer()
    store.start(PACKAGED, starts_max=STARTS)

    assert around.points == []


@pytest.mark.parametrize("moment", ["before", "written", "after"])
def test_a_power_cut_leaves_the_old_profiles_or_the_new_ones(tmp_path: Path, moment: str) -> None:
    around = Surroundings()
    store = ConnectionStore(tmp_path, PACKAGED, fault=around.hooks.fault)
    store.answer()
    store.put_on_trial(B)
    around.kill_at = f"connection.works:{moment}"

    with pytest.raises(Killed):
        store.answer()

    first = ConnectionStore(tmp_path, PACKAGED).slots.first
    assert first == (B if moment == "after" else PACKAGED)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    ConnectionStore(tmp_path, PACKAGED)
    (tmp_path / FILE_NAME).write_text("{}")

    with pytest.raises(StateUnreadableError, match=FILE_NAME):
        ConnectionStore(tmp_path, PACKAGED)
