"""Commands, log and core dumps of the core in C, without a broker."""

from __future__ import annotations

import hashlib
import json

from tests.sdk.core import kinds, said
from tests.sdk.devices import command, online, started


def test_a_command_is_begun_durably_then_run_once_and_answered_until_the_broker_has_it() -> None:
    core = started()
    online(core)
    sent = command()
    actions = core.message("command", sent)
    assert [(it.kind, it.name) for it in actions[:2]] == [("STORE", "journal"), ("RUN", "blink")]
    assert json.loads(actions[1].data) == {"times": 3}
    core.lib.mdm_on_command_done(core.m, b'{"blinked":3}', core.ffi.NULL)
    core.run(answer=False)
    again = started(core.records)
    spoken = again.log_in()
    assert said(spoken, "command/result") == [
        {"command_id": sent["command_id"], "ok": True, "result": {"blinked": 3}}
    ]
    repeated = again.message("command", sent)
    assert ("RUN" in kinds(repeated), len(said(repeated, "command/result"))) == (False, 1)
    assert said(started(again.records).log_in(), "command/result") == []


def test_a_command_that_was_cut_off_is_said_to_be_and_not_done_again() -> None:
    core = started()
    online(core)
    sent = command()
    core.message("command", sent)
    again = started(core.records)
    assert said(again.log_in(), "command/result")[0] == {
        "command_id": sent["command_id"],
        "ok": False,
        "error": "cut off by a restart",
    }
    assert "RUN" not in kinds(again.message("command", sent))


def test_a_command_that_comes_while_another_one_runs_is_left_to_the_server_which_sends_it_again() -> None:
    core = started()
    online(core)
    first, second = command(), command()
    core.message("command", first)
    assert kinds(core.message("command", second)) == ["PUBACK"]
    core.lib.mdm_on_command_done(core.m, core.ffi.NULL, core.ffi.NULL)
    ended = core.run()
    assert [it["command_id"] for it in said(ended, "command/result")] == [first["command_id"]]
    assert said(ended, "status"), "only a status makes the server send it again"
    assert ended.index(next(it for it in ended if it.topic.endswith("status"))) > ended.index(
        next(it for it in ended if it.topic.endswith("result"))
    )
    assert "RUN" in kinds(core.message("command", second))
    assert said(core.later(1), "status") == []


def test_a_result_is_not_said_to_a_broker_for_recoveries() -> None:
    core = started()
    online(core)
    core.message("command", command())
    core.lib.mdm_on_lost(core.m)
    core.run()
    core.lib.mdm_on_refused(core.m)
    core.run()
    (_, asked) = core.accept()
    assert asked.topic.endswith("/request")
    core.lib.mdm_on_command_done(core.m, core.ffi.NULL, core.ffi.NULL)
    assert [it for it in core.run() if it.kind == "PUBLISH"] == []


def test_an_expired_command_is_refused_by_the_servers_time() -> None:
    core = started()
    online(core)
    actions = core.message("command", command(expires_at="2026-11-25T14:59:59Z"))
    assert [it["error"] for it in said(actions, "command/result")] == ["expired"]


def test_the_last_32_commands_are_remembered() -> None:
    core = started()
    online(core)
    sent = [command() for _ in range(40)]
    for it in sent:
        core.message("command", it)
        core.lib.mdm_on_command_done(core.m, core.ffi.NULL, core.ffi.NULL)
        core.run()
    for it in sent[-32:]:
        assert "RUN" not in kinds(core.message("command", it))


def test_a_reboot_waits_until_the_broker_has_its_result() -> None:
    core = started()
    online(core)
    assert "RESTART" not in kinds(core.message("command", command("reboot"), run=False) or core.run(answer=False))
    core.lib.mdm_on_acknowledged(core.m)
    assert kinds(core.run())[-2:] == ["DISCONNECT", "RESTART"]


def test_lines_are_numbered_and_kept_until_the_broker_has_them() -> None:
    core = started()
    online(core)
    numbers: list[int] = []
    for number in range(30):
        core.lib.mdm_log(core.m, 2, b"wifi", f'line "{number}" \\ \x07'.encode())
    for _ in range(20):
        for log in said(core.later(1), "log"):
            numbers += [log["first"] + at for at in range(len(log["lines"]))]
            assert log["lines"][0]["tag"] == "wifi"
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= 29


def test_vitals_are_sent_once_now_or_after_the_next_login() -> None:
    core = started()
    text = core.ffi.new("char[]", b'{"uptime_s":7}')
    core.lib.mdm_vitals(core.m, text)
    assert said(online(core), "vitals") == [{"uptime_s": 7}]
    assert said(core.later(600), "vitals") == []
    core.lib.mdm_vitals(core.m, text)
    assert said(core.run(), "vitals") == [{"uptime_s": 7}]


def test_a_core_dump_is_sent_in_the_pieces_that_are_wanted_and_then_erased() -> None:
    core = started()
    digest = hashlib.sha256(b"dump").digest()
    text = core.ffi.new("char[]", b"e" * 64)
    dump = core.ffi.new("struct mdm_dump *", {"size": 40_000, "sha256": digest, "elf_sha256": text})
    core.lib.mdm_offer_dump(core.m, dump)
    spoken = online(core)
    assert said(spoken, "coredump/offer")[0]["sha256"] == digest.hex()
    wanted = {"sha256": digest.hex(), "chunk_size_bytes": 16_384, "missing": [0, 16_384, 32_768]}
    actions = [it for it in core.message("coredump/wanted", wanted) if it.topic.endswith("coredump/chunk")]
    pieces = {int.from_bytes(it.data[32:36], "big"): it.dump_size for it in actions}
    assert pieces == {0: 16_384, 16_384: 16_384, 32_768: 40_000 - 32_768}
    assert all(it.data[:32] == digest for it in actions)
    assert "ERASE_DUMP" in kinds(core.message("coredump/stored", {"sha256": digest.hex()}))
