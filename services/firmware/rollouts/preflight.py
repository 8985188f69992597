"""The preflight of a rollout: which devices would accept the image, which run it, and why others would fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries, rules
from services.firmware.assignment import rollout_queries, rollout_states
from services.firmware.assignment.prospects import candidate_of
from services.firmware.images import catalog
from services.firmware.rollouts import targets
from services.firmware.rollouts.targets import KnownTarget
from shared.database.image_hashes import hashes_of
from shared.database.tables import DeviceModel, FirmwareImage
from shared.protocol import admin

OFFLINE_AFTER: Final = timedelta(days=1)
_ORDER: Final = get_args(admin.PresenceState)


@dataclass(frozen=True, slots=True)
class Survey:
    """The devices of a rollout; fitting ones are in the order of their waves, `unseen` ones were never seen."""

    model: DeviceModel
    image: FirmwareImage
    fit: list[KnownTarget]
    already: list[KnownTarget]
    unfit: list[tuple[KnownTarget, admin.RolloutProblem]]
    unseen: list[KnownTarget]

    def findings(self, waves: Sequence[str]) -> admin.RolloutFindings:
        """Return the view for an admin."""
        return admin.RolloutFindings(
            model=self.model.code,
            version=self.image.version,
            sha256=self.image.sha256,
            fit=len(self.fit),
            already=admin.Named.of([known.client_id for known in self.already]),
            never_seen=len(self.unseen),
            count=len(self.unfit),
            refusing=sum(problem.refuses for _, problem in self.unfit),
            problems=[problem for _, problem in self.unfit[: admin.MAX_NAMED]],
            waves=rollout_states.wave_sizes(len(self.fit), waves),
        )


async def survey(session: AsyncSession, asked: admin.RolloutPreflight) -> Survey:
    """Check each selected device; the model is locked.

    Raise InvalidInputError for an image without the signatures that its model requires.
    """
    model = await queries.model(session, asked.model)
    image = await rollout_queries.image(session, model, asked.version)
    await catalog.check_signed(session, model, image)
    found = await targets.selected(session, model, asked.tags, image)
    now = datetime.now(UTC)
    fit, already, unfit, unseen = [], [], [], []
    for known in found[: -(-len(found) * asked.percent // 100)]:
        problem = _problem(known, image, now)
        if known.last_seen_at is None and (problem is None or not problem.refuses):
            unseen.append(known)
        elif problem is not None:
            unfit.append((known, problem))
        elif known.running.sha256 in hashes_of(image):
            already.append(known)
        else:
            fit.append(known)
    return Survey(
        model,
        image,
        # Reachable devices come first, then those that wake up; `sorted` keeps their order otherwise.
        sorted(fit, key=lambda known: _ORDER.index(known.presence)),
        already,
        sorted(unfit, key=lambda one: not one[1].refuses),
        unseen,
    )


def _problem(known: KnownTarget, image: FirmwareImage, now: datetime) -> admin.RolloutProblem | None:
    """Return the reason why a device would not accept an image, if there is one."""
    refusal = rules.refusal(candidate_of(image, known.delivery), known.running)
    if refusal is None and not known.enabled:
        refusal = "is disabled"
    reason = refusal
    if refusal is None and known.running.sha256 not in hashes_of(image):
        reason = _unreachable(known, now)
    if reason is None:
        return None
    return admin.RolloutProblem(
        client_id=known.client_id, name=known.name, reason=reason, refuses=refusal is not None
    )


def _unreachable(known: KnownTarget, now: datetime) -> str | None:
    if known.last_seen_at is None:
        return None
    if known.presence == "offline" and known.last_seen_at < now - OFFLINE_AFTER:
        return f"is offline since {known.last_seen_at:%Y-%m-%d %H:%M:%SZ}"
    if known.running.slot_size_bytes is None:
        return "slot_size_bytes: the device has not reported the size of its slot"
    return None
