"""Which connection profile is wanted, and what a report of a device means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.connection_rules import (
    ConnectionLayers,
    StoredConnection,
    connection_id,
    has_applied,
    has_fallen_back,
    has_refused,
    progress,
    reported,
)
from shared.database.tables import ConnectionLayer
from shared.protocol.messages import ConnectionState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
BASE = {"mqtt_host": "base", "mqtt_port": 8883}
A, B, C = "a" * 16, "b" * 16, "c" * 16
SETTLED = StoredConnection(first=A, in_use=A, reported_at=NOW)


def layer(number: int, scope: str, document: dict[str, Any], **facts: Any) -> ConnectionLayer:  # noqa: ANN401
    return ConnectionLayer(number=number, scope=scope, document=document, **{"priority": 0, **facts})


def state(**facts: object) -> ConnectionState:
    return ConnectionState.model_validate(facts)


def after(stored: StoredConnection, **facts: object) -> StoredConnection:
    return reported(stored, state(**facts), NOW + HOUR)


def test_a_later_layer_takes_precedence_field_by_field_and_says_where_it_is_from() -> None:
    rows = [
        layer(1, "settings", BASE),
        layer(2, "all", {"mqtt_port": 1}),
        layer(3, "tag", {"mqtt_port": 2, "mqtt_host": "b"}, tag="b"),
        layer(4, "tag", {"mqtt_port": 3}, tag="a", priority=1),
        layer(5, "device", {"token_url": "https://x"}, device_id=9, trial_seconds=60),
    ]
    layers = ConnectionLayers(rows[::-1], {})
    wanted = layers.wanted(9, ["b", "a", "other"])
    assert wanted.document == {"mqtt_host": "b", "mqtt_port": 3, "token_url": "https://x"}
    assert {name: it.number for name, it in wanted.sources.items()} == {
        "mqtt_host": 3,
        "mqtt_port": 4,
        "token_url": 5,
    }
    assert (wanted.trial_seconds, layers.wanted(8, []).trial_seconds) == (60, 300)
    assert layers.wanted(8, ["b"]).document == {"mqtt_host": "b", "mqtt_port": 2}
    assert layers.wanted(8, []) is layers.wanted(7, ["other"]), "the same layers are merged once"


def test_until_the_settings_are_recorded_they_are_what_they_are_now() -> None:
    layers = ConnectionLayers([layer(2, "all", {"mqtt_port": 1})], BASE)
    assert layers.wanted(None, []).document == {"mqtt_host": "base", "mqtt_port": 1}


def test_a_changed_layer_takes_the_place_of_its_scope_only_and_a_removed_one_leaves_it_empty() -> None:
    layers = ConnectionLayers([layer(1, "settings", BASE), layer(2, "tag", {"mqtt_port": 1}, tag="t")], {})
    other = layers.changed(layer(3, "tag", {"mqtt_port": 2}, tag="t"))
    assert other.wanted(1, ["t"]).document["mqtt_port"] == 2
    assert other.changed(layer(4, "tag", {}, tag="t", removed=True)).wanted(1, ["t"]).document == BASE
    assert layers.wanted(1, ["t"]).document["mqtt_port"] == 1


@given(document=st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()))
def test_an_id_is_that_of_the_content_in_whatever_order(document: dict[str, Any]) -> None:
    turned = dict(reversed(document.items()))
    assert connection_id(document) == connection_id(turned)
    assert connection_id({**document, "one more": 1}) != connection_id(document)
    assert len(connection_id(document)) == 16


def test_the_first_report_of_the_packages_profile_is_no_news() -> None:
    packed = StoredConnection(first=A, in_use=A)
    now = after(packed, first=A, in_use=A)
    assert not packed.is_reported(state(first=A, in_use=A))
    assert now.is_reported(state(first=A, in_use=A))
    assert not any(news(packed, now) for news in (has_applied, has_refused, has_fallen_back))


def test_a_profile_on_trial_is_neither_applied_nor_a_fallback() -> None:
    sent = SETTLED._replace(sent_id=B, sent_at=NOW)
    trial = after(sent, first=A, in_use=B)
    assert (has_applied(sent, trial), has_fallen_back(sent, trial)) == (False, False)
    kept = after(trial, first=B, fallback=A, in_use=B)
    assert (has_applied(trial, kept), progress(kept, B)) == (True, "in use")
    # Also that of the former one, which is the fallback at the same time.
    again = after(kept._replace(sent_id=A, sent_at=NOW), first=B, fallback=A, in_use=A)
    assert (has_fallen_back(kept, again), again.is_on_fallback) == (False, False)


def test_a_refusal_is_news_once_for_each_time_that_the_profile_was_sent() -> None:
    sent = SETTLED._replace(sent_id=B, sent_at=NOW)
    refused = {"connection_id": B, "outcome": "reverted", "reason": "no answer"}
    one = after(sent, first=A, in_use=A, refused=refused)
    assert has_refused(sent, one)
    assert progress(one, B) == "refused"
    assert not has_refused(one, after(one, first=A, in_use=A, refused=refused))
    again = one._replace(sent_at=NOW + 2 * HOUR)
    assert has_refused(again, reported(again, state(first=A, in_use=A, refused=refused), NOW + 3 * HOUR))
    assert progress(one, C) == "waiting", "another one is wanted now"
    assert after(one, first=A, in_use=A).refused_at is None


@pytest.mark.parametrize("former", [A, None], ids=["an id", "the one of an old package"])
def test_a_device_on_its_fallback_is_told_once_and_its_return_too(former: str | None) -> None:
    kept = StoredConnection(first=B, fallback=former, in_use=B, reported_at=NOW, sent_id=B, sent_at=NOW)
    down = after(kept, first=B, fallback=former, in_use=former)
    assert (has_fallen_back(kept, down), progress(down, B)) == (True, "fallback")
    assert not has_fallen_back(down, after(down, first=B, fallback=former, in_use=former))
    up = after(down, first=B, fallback=former, in_use=B)
    assert (has_applied(down, up), progress(up, B)) == (True, "in use")


def test_a_device_of_an_old_package_that_reports_no_ids_is_not_on_its_fallback() -> None:
    blank = after(StoredConnection())
    assert not blank.is_on_fallback
    assert (progress(StoredConnection(), A), progress(blank, A)) == ("as provisioned", "waiting")


def test_the_same_profile_is_sent_once_an_hour_and_another_one_at_once() -> None:
    sent = SETTLED._replace(sent_id=B, sent_at=NOW)
    assert sent.may_be_sent(C, NOW)
    assert not sent.may_be_sent(B, NOW + timedelta(minutes=50))
    assert sent.may_be_sent(B, NOW + timedelta(minutes=59)), "it asks each hour, give or take"
    assert sent._replace(sent_at=None).may_be_sent(B, NOW)
