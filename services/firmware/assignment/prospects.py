"""The image that each device should have, a rollout's or its model's, and what it runs: decided only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import rules
from services.firmware.assignment import rollout_states
from services.firmware.assignment.rollout_states import DeviceStatus, State
from services.firmware.queries import RUNNING_LABEL
from shared.database import device_refs
from shared.database.arrays import one_of, one_of_rows
from shared.database.image_hashes import hashes_of
from shared.database.tables import (
    Device,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    Presence,
    Rollout,
    RolloutDevice,
)
from shared.esp32 import chips
from shared.protocol import messages


@dataclass(frozen=True, slots=True)
class Prospect:
    """A device, what it runs, the image that it should have, if any, and its progress with that.

    `runs` is the label of the running image, None if that is not stored.
    """

    client_id: str
    device_id: int
    running: rules.Running
    runs: str | None
    image: FirmwareImage | None
    delivery: FirmwareDelivery | None

    @property
    def stage(self) -> str | None:
        """The stage of the delivery."""
        return self.delivery.stage if self.delivery else None

    @property
    def runs_it(self) -> bool:
        """Whether the device runs the image that it should have."""
        return self.image is not None and self.running.sha256 in hashes_of(self.image)

    @property
    def refusal(self) -> str | None:
        """The reason why the device must not have its image, if there is one."""
        if self.image is None:
            return None
        return rules.refusal(candidate_of(self.image, self.delivery), self.running)


def candidate_of(image: FirmwareImage, delivery: FirmwareDelivery | None) -> rules.Candidate:
    """Return an image and its earlier delivery to a device as input of the rules."""
    return rules.Candidate(
        hashes=hashes_of(image),
        size_bytes=image.size_bytes,
        chip=image.chip,
        project=image.project,
        secure_version=image.secure_version,
        min_chip_revision=image.min_chip_revision,
        max_chip_revision=image.max_chip_revision,
        secure_boot_keys=tuple(image.secure_boot_keys),
        stage=delivery.stage if delivery else None,
        fallbacks=delivery.fallbacks if delivery else 0,
    )


def running_of(presence: Presence | None, check: messages.FirmwareCheck | None = None) -> rules.Running:
    """Return the running firmware of a device's last status, or of a check, which is newer and shorter."""
    status = (presence and presence.status) or {}
    running = rules.Running(
        sha256=presence.firmware_sha256 if presence else None,
        chip=status.get("chip"),
        project=status.get("project"),
        slot_size_bytes=status.get("slot_size_bytes"),
        secure_version=status.get("secure_version"),
        chip_revision=status.get("chip_revision"),
        secure_boot_keys=tuple(status.get("secure_boot_keys") or ()),
    )
    if check is not None:
        running = replace(
            running,
            sha256=check.sha256,
            chip=check.chip or running.chip,
            project=check.project or running.project,
            slot_size_bytes=check.slot_size_bytes or running.slot_size_bytes,
        )
    # A name that nobody knows decides nothing: the chip is in the image too, and the board looks at it.
    return replace(running, chip=running.chip and chips.normalise(running.chip))


# Built once: building a statement takes as long as executing it.
_DEVICES: Final = (
    select(
        Device.id, Device.key, DeviceModel.id, DeviceModel.code, DeviceModel.image_sha256, Presence, RUNNING_LABEL
    )
    .join(DeviceModel, DeviceModel.id == Device.model_id)
    .outerjoin(Presence, Presence.device_id == Device.id)
    .where(device_refs.AMONG, Device.enabled, Device.lifecycle == "ACTIVE")
    .order_by(Device.id)
)


async def prospect(
    session: AsyncSession, client_id: str, *, check: messages.FirmwareCheck | None = None
) -> Prospect:
    """Return the prospect of an enabled device, or raise NotFoundError; its delivery is locked."""
    found = await prospects(session, [client_id], check=check, lock=True)
    if not found:
        raise device_refs.unknown(client_id)
    return found[0]


async def prospects(
    session: AsyncSession,
    client_ids: Iterable[str],
    *,
    check: messages.FirmwareCheck | None = None,
    lock: bool = False,
) -> list[Prospect]:
    """Return the prospects of the enabled devices among these; `check` is of the only one."""
    asked = set(client_ids)
    rows = (await session.execute(_DEVICES, {"keys": device_refs.keys(asked)})).all()
    bound = await _bound(session, [row[0] for row in rows])
    wanted = {
        (row[2], sha256) for row in rows for sha256 in (row[4], *(one.sha256 for one in bound.get(row[0], ())))
    }
    images = await _images(session, wanted)
    found = []
    for device_id, key, model_id, code, model_sha256, presence, label in rows:
        client_id = device_refs.client_id(code, key)
        if client_id not in asked and key not in asked:
            continue
        running = running_of(presence, check)
        sha256 = _of_rollout(bound.get(device_id, ()), model_id, running, images) or model_sha256
        found.append(Prospect(client_id, device_id, running, label, images.get((model_id, sha256)), None))
    return await _with_deliveries(session, found, lock=lock)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A rollout in force, and its device's status in it."""

    sha256: str
    state: State
    status: DeviceStatus


async def _bound(session: AsyncSession, device_ids: Sequence[int]) -> dict[int, list[_Bound]]:
    """Return the rollouts in force of each device, newest first."""
    rows = await session.execute(
        select(RolloutDevice.device_id, Rollout.sha256, Rollout.state, RolloutDevice.state)
        .join(RolloutDevice, RolloutDevice.rollout_id == Rollout.id)
        .where(one_of(RolloutDevice.device_id, device_ids), Rollout.in_force, Rollout.sha256.is_not(None))
        .order_by(Rollout.id.desc())
    )
    found: dict[int, list[_Bound]] = {}
    for device_id, sha256, state, status in rows:
        found.setdefault(device_id, []).append(_Bound(str(sha256), State(state), DeviceStatus(status)))
    return found


async def _images(
    session: AsyncSession, wanted: Iterable[tuple[int, str | None]]
) -> dict[tuple[int, str | None], FirmwareImage]:
    named = [(model_id, sha256) for model_id, sha256 in wanted if sha256 is not None]
    rows = await session.scalars(
        select(FirmwareImage).where(one_of_rows((FirmwareImage.model_id, FirmwareImage.sha256), named))
    )
    return {(image.model_id, image.sha256): image for image in rows}


def _of_rollout(
    rollouts: Iterable[_Bound],
    model_id: int,
    running: rules.Running,
    images: dict[tuple[int, str | None], FirmwareImage],
) -> str | None:
    """Return the image that a rollout selects for a device, or None if its model's image applies."""
    decided = set()
    for one in rollouts:
        image = images.get((model_id, one.sha256))
        runs_it = image is not None and running.sha256 in hashes_of(image)
        # Of rollouts of one image, the newest decides, as when reports are recorded.
        if one.sha256 not in decided and rollout_states.binds(one.state, one.status, runs_it=runs_it):
            return one.sha256
        decided.add(one.sha256)
    return None


async def _with_deliveries(session: AsyncSession, found: Sequence[Prospect], *, lock: bool) -> list[Prospect]:
    pairs = [(one.device_id, one.image.sha256) for one in found if one.image]
    query = select(FirmwareDelivery).where(
        one_of_rows((FirmwareDelivery.device_id, FirmwareDelivery.sha256), pairs)
    )
    rows = await session.scalars(query.with_for_update() if lock else query) if pairs else ()
    deliveries = {(row.device_id, row.sha256): row for row in rows}
    return [
        replace(one, delivery=deliveries.get((one.device_id, one.image.sha256))) if one.image else one
        for one in found
    ]
