from __future__ import annotations

from itertools import product

import pytest

from services.registry.credentials.rules import Places, Remedy, remedy
from shared.crypto import Held

OLD, NEW, OTHER = Held(1, "old"), Held(2, "new"), Held(2, "other")
ANY = [None, OLD, NEW, OTHER]


def places(
    row: Held | None,
    keycloak: Held,
    broker: Held | None,
    *,
    connected: bool = False,
    refused: bool = False,
    reported: int | None = None,
    accounts: bool = True,
) -> Places:
    return Places(
        row, keycloak, broker, connected=connected, refused=refused, reported=reported, accounts=accounts
    )


@pytest.mark.parametrize(("connected", "refused"), [(True, False), (False, True), (False, False)])
def test_nothing_is_done_where_all_agree(connected: bool, refused: bool) -> None:
    assert remedy(places(NEW, NEW, NEW, connected=connected, refused=refused)) is Remedy.NONE


@pytest.mark.parametrize("row", [None, OLD, OTHER])
def test_the_row_takes_what_keycloak_and_the_broker_hold(row: Held | None) -> None:
    assert remedy(places(row, NEW, NEW)) is Remedy.RECORD


@pytest.mark.parametrize(("row", "keycloak", "broker"), list(product(ANY, [OLD, NEW, OTHER], ANY)))
def test_the_secret_by_which_a_device_is_connected_is_never_taken_away(
    row: Held | None, keycloak: Held, broker: Held | None
) -> None:
    assert remedy(places(row, keycloak, broker, connected=True)) is not Remedy.PUT


@pytest.mark.parametrize(("row", "keycloak", "broker"), list(product(ANY, [OLD, NEW, OTHER], ANY)))
def test_a_secret_that_the_device_was_refused_with_gives_way_to_keycloaks(
    row: Held | None, keycloak: Held, broker: Held | None
) -> None:
    found = remedy(places(row, keycloak, broker, refused=True))
    assert found is (Remedy.PUT if broker != keycloak else Remedy.NONE if row == keycloak else Remedy.RECORD)


def test_an_older_account_gets_what_database_and_keycloak_agree_on() -> None:
    assert remedy(places(NEW, NEW, OLD)) is Remedy.PUT


def test_a_newer_account_is_left_until_the_device_has_come_or_was_refused() -> None:
    assert remedy(places(OLD, OLD, NEW)) is Remedy.ROTATE
    assert remedy(places(OLD, OLD, NEW, connected=True)) is Remedy.ROTATE
    assert remedy(places(OLD, OLD, NEW, refused=True)) is Remedy.PUT


def test_a_late_call_to_keycloak_is_healed_over_the_broker() -> None:
    assert remedy(places(OLD, NEW, OLD)) is Remedy.ROTATE


def test_an_old_account_that_does_not_say_what_it_holds_is_left_as_it_is() -> None:
    assert remedy(places(None, OLD, None)) is Remedy.NONE
    assert remedy(places(OLD, OLD, None, connected=True)) is Remedy.NONE
    assert remedy(places(OLD, NEW, None)) is Remedy.ROTATE


def test_a_foreign_refusal_takes_nothing_from_a_device_that_logged_in_last_with_what_the_broker_holds() -> None:
    assert remedy(places(OLD, NEW, OLD, refused=True, reported=OLD.generation)) is Remedy.ROTATE
    assert remedy(places(OLD, NEW, OLD, refused=True, reported=NEW.generation)) is Remedy.PUT


@pytest.mark.parametrize("connected", [True, False])
def test_without_accounts_a_device_that_is_connected_is_not_taken_to_have_what_keycloak_holds(
    connected: bool,
) -> None:
    split = places(OLD, NEW, NEW, connected=connected, accounts=False)
    assert remedy(split) is (Remedy.ROTATE if connected else Remedy.RECORD)
    assert remedy(places(NEW, NEW, NEW, connected=connected, accounts=False)) is Remedy.NONE
    assert remedy(places(None, NEW, NEW, connected=connected, accounts=False)) is Remedy.RECORD
