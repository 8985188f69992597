"""Images and the core in C, without a broker."""

from __future__ import annotations

import hashlib

import pytest

from device import image_builder
from tests.sdk.core import Action, Core, kinds, said
from tests.sdk.devices import online, started

CHUNK = 4096


def image(size_bytes: int = 3 * CHUNK + 112, chip: str = "esp32") -> bytes:
    return image_builder.build(version="1.1.0", project="blink", chip=chip, size_bytes=size_bytes)


def offer_of(data: bytes, **fields: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "version": "1.1.0",
    }
    return usual | {"up_to_date": False, "chunk_size_bytes": CHUNK, "window": 2} | fields


def with_slots(records: dict[str, bytes] | None = None, **facts: object) -> Core:
    usual = {"firmware_sha256": "1" * 64, "chip": "esp32", "slot_size_bytes": 1 << 20}
    return started(records, **usual | facts)


def serve(core: Core, data: bytes, actions: list[Action], *, pieces: int = 1000) -> list[Action]:
    """Answer requests of pieces until there are no more, or so many were served."""
    everything, requests = list(actions), said(actions, "firmware/chunk")
    while requests and pieces:
        request = requests.pop(0)
        piece = data[request["offset"] : request["offset"] + request["length"]]
        new = core.message(f"firmware/chunk/{request['sha256']}/{request['offset']}", piece)
        everything, requests, pieces = everything + new, requests + said(new, "firmware/chunk"), pieces - 1
    return everything


def verified(core: Core, sha256: bytes | None = None) -> list[Action]:
    core.lib.mdm_on_verified(core.m, hashlib.sha256(core.flash).digest() if sha256 is None else sha256)
    return core.run()


def test_an_image_is_fetched_verified_and_started_on_trial_then_confirmed() -> None:
    core, data = with_slots(), image()
    online(core)
    actions = serve(core, data, core.message("firmware/offer", offer_of(data)))
    assert bytes(core.flash) == data
    assert [it["stage"] for it in said(actions, "firmware/report")][-1] == "verifying"
    assert kinds(actions)[-1] == "VERIFY"
    rest = verified(core)
    assert kinds(rest) == ["STORE", "BOOT", "STORE", "STORE", "PUBLISH", "DISCONNECT", "RESTART"]
    assert said(rest, "firmware/report") == [{"sha256": hashlib.sha256(data).hexdigest(), "stage": "rebooting"}]
    new = with_slots(core.records, slot=1, on_trial=True)
    spoken = online(new)
    assert (new.kept, said(spoken, "firmware/report")[-1]["stage"]) == (True, "confirmed")
    assert said(with_slots(new.records, slot=1).log_in(), "firmware/report") == []


def test_an_image_is_verified_although_the_connection_is_lost_before_the_server_knows() -> None:
    core, data = with_slots(), image()
    online(core)
    actions = serve(core, data, core.message("firmware/offer", offer_of(data)), pieces=3)
    (last,) = [it for it in said(actions, "firmware/chunk") if it["offset"] == 3 * CHUNK]
    core.message(f"firmware/chunk/{last['sha256']}/{last['offset']}", data[3 * CHUNK :], answer=False)
    core.lib.mdm_on_lost(core.m)
    again = core.log_in()
    assert [it["stage"] for it in said(again, "firmware/report")] == ["verifying"]
    assert "VERIFY" in kinds(again)
    assert said(verified(core), "firmware/report")[-1]["stage"] == "rebooting"


def test_an_image_that_is_not_answered_in_time_is_rolled_back_reported_and_refused() -> None:
    core, data = with_slots(), image()
    online(core)
    serve(core, data, core.message("firmware/offer", offer_of(data)))
    verified(core)
    new = with_slots(core.records, slot=1, on_trial=True)
    new.run()
    ended = new.later(120_100)
    assert [(it.kind, it.name) for it in ended if it.kind in {"STORE", "ROLL_BACK"}] == [
        ("STORE", "image"),
        ("ROLL_BACK", ""),
    ]
    old = with_slots(new.records, slot=0)
    (report,) = said(online(old), "firmware/report")
    assert (report["stage"], report["error"]) == ("rolled_back", "was not connected and answered in time")
    assert said(old.message("firmware/offer", offer_of(data)), "firmware/report")[0]["stage"] == "rolled_back"
    assert said(with_slots(old.records).log_in(), "firmware/report") == []


def test_an_image_that_tests_itself_is_kept_only_when_it_is_healthy() -> None:
    new = with_slots(slot=1, on_trial=True, self_tested=True)
    online(new)
    assert not new.kept
    new.lib.mdm_healthy(new.m)
    new.run()
    assert new.kept


@pytest.mark.parametrize("at", ["CHOSEN", "SELECTED"])
def test_a_power_cut_while_an_image_is_selected_loses_nothing(at: str) -> None:
    core, data = with_slots(), image()
    online(core)
    serve(core, data, core.message("firmware/offer", offer_of(data)))
    core.lib.mdm_on_verified(core.m, hashlib.sha256(core.flash).digest())
    core.records["image"] = core.next().data  # type: ignore[union-attr]
    core.done()
    if at == "SELECTED":
        assert core.next().kind == "BOOT"  # type: ignore[union-attr]
        new = with_slots(core.records, slot=1, on_trial=True)
        assert said(online(new), "firmware/report")[-1]["stage"] == "confirmed"
    else:
        again = with_slots(core.records)
        again.flash = core.flash
        online(again)
        again.message("firmware/offer", offer_of(data))
        assert said(verified(again), "firmware/report")[-1]["stage"] == "rebooting"


def test_a_download_goes_on_after_a_restart_where_the_flash_may_be_trusted() -> None:
    core, data = with_slots(), image(9 * CHUNK)
    online(core)
    serve(core, data, core.message("firmware/offer", offer_of(data)), pieces=5)
    again = with_slots(core.records)
    again.flash = core.flash
    online(again)
    actions = again.message("firmware/offer", offer_of(data))
    assert said(actions, "firmware/chunk")[0]["offset"] == 4 * CHUNK
    serve(again, data, actions)
    assert bytes(again.flash) == data


def test_a_piece_is_requested_again_when_it_does_not_come_and_no_other_is_taken() -> None:
    core, data = with_slots(), image()
    online(core)
    first = core.message("firmware/offer", offer_of(data))
    assert [it["offset"] for it in said(first, "firmware/chunk")] == [0, CHUNK]
    sha256 = hashlib.sha256(data).hexdigest()
    for name, piece in (
        (f"{sha256}/{CHUNK}", data[CHUNK : 2 * CHUNK]),
        (f"{'2' * 64}/0", data[:CHUNK]),
        (f"{sha256}/0", b"x"),
    ):
        assert kinds(core.message(f"firmware/chunk/{name}", piece))[0] == "PUBACK"
    assert len(core.flash) == 0
    assert [it["offset"] for it in said(core.later(5_100), "firmware/chunk")] == [0, CHUNK]


def test_pieces_have_the_size_that_the_board_wants() -> None:
    core, data = with_slots(piece_size_bytes=768), image()
    online(core)
    first = core.message("firmware/offer", offer_of(data))
    assert [it["length"] for it in said(first, "firmware/chunk")] == [768, 768]
    serve(core, data, first)
    assert bytes(core.flash) == data


def test_an_image_with_another_hash_is_fetched_again_twice_and_then_failed() -> None:
    core, data = with_slots(), image()
    online(core)
    actions = core.message("firmware/offer", offer_of(data))
    for _ in range(2):
        serve(core, data, actions)
        actions = verified(core, bytes(32))
        assert said(actions, "firmware/chunk")[0]["offset"] == 0
    serve(core, data, actions)
    assert said(verified(core, bytes(32)), "firmware/report")[-1]["stage"] == "failed"
    assert not core.selected


@pytest.mark.parametrize(
    ("fields", "chip", "stage"),
    [
        ({"size_bytes": (1 << 20) + 1}, "esp32", "failed"),
        ({"size_bytes": 100}, "esp32", "failed"),
        ({}, "esp32c3", "failed"),
    ],
)
def test_an_image_that_cannot_run_here_is_not_fetched_or_given_up_early(
    fields: dict[str, object], chip: str, stage: str
) -> None:
    core, data = with_slots(), image(chip=chip)
    online(core)
    actions = serve(core, data, core.message("firmware/offer", offer_of(data) | fields))
    assert said(actions, "firmware/report")[-1]["stage"] == stage
    assert len(core.flash) <= CHUNK
