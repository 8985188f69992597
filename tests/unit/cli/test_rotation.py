import json
from uuid import UUID

import pytest

from cli import rotation
from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

NONE = admin.Named.of([])


def named(*names: str) -> admin.Named:
    return admin.Named.of(names)


def under_way(slot: int) -> admin.RotationUnderWay:
    return admin.RotationUnderWay(
        client_id=f"device-{slot}",
        rotation_id=UUID(int=slot),
        generation=2,
        step="DELIVERED",
        slot=slot,
        started_at=fakes.NOW,
        left_s=17,
        cancelled=slot == 9,
    )


def entry(generation: int, **facts: object) -> admin.RotationEntry:
    usual: dict[str, object] = {
        "rotation_id": UUID(int=generation),
        "generation": generation,
        "step": "SWITCHED",
        "outcome": "DONE",
        "started_at": fakes.NOW,
        "delivered_at": fakes.NOW,
        "stored_at": fakes.NOW,
        "switched_at": None,
        "ended_at": fakes.NOW,
        "duration_s": 1.25,
        "refused_proofs": 3,
    }
    return admin.RotationEntry.model_validate({**usual, **facts})


def sent(fake: fakes.FakeAdmin) -> list[dict[str, object]]:
    requests = fake.sent("rotator.")
    return [request.model_dump(exclude={"request_id"}, exclude_defaults=True) for request in requests]


@pytest.fixture(autouse=True)
def _devices(fake: fakes.FakeAdmin) -> None:
    fake.answers["registry.device.list"] = admin.Devices(devices=[fakes.device(), fakes.device(enabled=False)])


@pytest.mark.parametrize("words", [("rotate",), ("rotation", "start")])
def test_start_takes_one_device_or_many(fake: fakes.FakeAdmin, mdm: Run, words: tuple[str, ...]) -> None:
    answer = admin.RotationQueued(
        queued=named("a"), waiting=named("a"), already=named("b"), ending=named("d"), skipped=named("c")
    )
    fake.answers["rotator.rotation.start"] = answer
    result = mdm(*words, "abcd1234")
    assert result.stderr == "not online: 1 of the queued; a new secret is offered on connection\n"
    assert result.stdout.splitlines()[1:] == [
        "a       queued",
        "b       already queued or in progress",
        "d       not queued: its cancelled rotation has not ended yet, retry soon",
        "c       skipped: device is disabled",
    ]
    mdm(*words, "--all")
    assert json.loads(mdm("--json", *words, "--tag", "t", "--model", "m").stdout) == answer.model_dump()
    assert sent(fake) == [{"device": "abcd1234"}, {"all": True}, {"tag": "t", "model": "m"}]


def test_a_rotation_of_many_is_counted_and_asked_for(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.list"] = admin.Devices(devices=[fakes.device(), fakes.device(online=False)])
    refused = mdm("rotate", "--all", typed="n\n")
    assert "rotate the secret of 2 devices, 1 of them offline? [y/N]" in refused.stderr
    tried = mdm("rotate", "--all", "--dry-run")
    assert (refused.exit_code, tried.exit_code, sent(fake)) == (2, 0, [])


def test_devices_that_an_answer_only_counts_are_mentioned(fake: fakes.FakeAdmin, mdm: Run) -> None:
    many = admin.Named.of([f"d{number}" for number in range(admin.MAX_NAMED + 234)])
    fake.answers["rotator.rotation.start"] = admin.RotationQueued(
        queued=many, already=NONE, ending=NONE, skipped=NONE
    )
    result = mdm("rotation", "start", "--all")
    assert len(result.stdout.splitlines()) == 1 + admin.MAX_NAMED
    assert result.stderr == "and 234 more: queued\n"


def test_cancel_prints_the_result_of_each_device(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["rotator.rotation.cancel"] = admin.RotationsCancelled(
        dequeued=named("a"), not_retried=named("b"), ending=named("c")
    )
    shown = mdm("rotation", "cancel", "--all").stdout
    assert shown.splitlines()[1:] == [
        "a       cancelled before it started",
        "b       will not be retried",
        "c       in progress: ends soon, will not be retried",
    ]
    fake.answers["rotator.rotation.cancel"] = admin.RotationsCancelled(
        dequeued=NONE, not_retried=NONE, ending=NONE
    )
    result = mdm("rotation", "cancel", "abcd1234")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing to cancel\n")
    assert sent(fake) == [{"all": True}, {"device": "abcd1234"}]


def test_status_gathers_all_pages(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def answer(request: admin.RotationStatus) -> admin.RotationOverview:
        first = request.after == -1
        return admin.RotationOverview(
            counts=admin.RotationCounts(ok=5, queued=7, pending=2, timeout=1),
            asleep=4,
            offline=1,
            under_way=[under_way(0 if first else 9)],
            next=0 if first else None,
        )

    fake.answers["rotator.rotation.status"] = answer
    result = mdm("rotation", "status")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[:4] == [["OK", "5"], ["QUEUED", "7"], ["PENDING", "2"], ["TIMEOUT", "1"]]
    assert " ".join(lines[4]) == "Of the queued, 4 are asleep and 1 offline."
    assert [line[:4] for line in lines[7:]] == [
        ["device-0", "DELIVERED", "17", "0"],
        ["device-9", "DELIVERED", "cancelled", "9"],
    ]
    assert len(json.loads(mdm("rotation", "status", "--json").stdout)["under_way"]) == 2


@pytest.mark.parametrize(("timeout", "exit_code"), [(0, 0), (1, 1)])
def test_watch_waits_for_all_devices_but_those_that_are_offline(
    fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch, timeout: int, exit_code: int
) -> None:
    monkeypatch.setattr(rotation, "POLL_S", 0)
    looks = iter(
        [{"queued": 3, "pending": 1}, {"queued": 5}, {"queued": 1, "pending": 1}, {"queued": 1}, {"queued": 1}]
    )

    def answer(_: admin.RotationStatus) -> admin.RotationOverview:
        counts = admin.RotationCounts.model_validate({"timeout": timeout, **next(looks)})
        return admin.RotationOverview(counts=counts, asleep=counts.queued - 1, offline=1, under_way=[])

    fake.answers["rotator.rotation.status"] = answer
    assert mdm("rotation", "status", "--watch").exit_code == exit_code
    assert len(fake.requests) == 5


def test_history_gathers_as_many_as_are_wanted(fake: fakes.FakeAdmin, mdm: Run) -> None:
    def answer(request: admin.RotationHistory) -> admin.Rotations:
        newest = (request.before or 901) - 1
        oldest = max(newest - request.limit, 0)
        return admin.Rotations(
            client_id="x",
            rotations=[entry(generation) for generation in range(newest, oldest, -1)],
            next=oldest + 1 if oldest else None,
        )

    fake.answers["rotator.rotation.history"] = answer
    shown = json.loads(mdm("rotation", "history", "x", "--limit", "700", "--json").stdout)
    assert [it["generation"] for it in shown["rotations"]] == list(range(900, 200, -1))
    assert sent(fake) == [{"device": "x", "limit": 500}, {"device": "x", "before": 401, "limit": 200}]


def test_history_shows_what_is_under_way_and_what_has_ended(fake: fakes.FakeAdmin, mdm: Run) -> None:
    open_one = entry(2, outcome=None, step="OFFERED", ended_at=None, duration_s=None)
    fake.answers["rotator.rotation.history"] = admin.Rotations(client_id="x", rotations=[open_one, entry(1)])
    lines = mdm("rotation", "history", "x").stdout.splitlines()
    assert "in progress: OFFERED" in lines[1]
    assert lines[2].split()[-2:] == ["3", str(UUID(int=1))]
    fake.answers["rotator.rotation.history"] = admin.Rotations(client_id="x", rotations=[])
    assert "no rotation" in mdm("rotation", "history", "x").stderr
