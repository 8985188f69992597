"""Queries on claims and on the requests of machines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.claims.rules import Taken
from shared.database import device_refs
from shared.database.arrays import one_of
from shared.database.tables import Claim, ClaimRequestRow, Device, DeviceModel
from shared.errors import NotFoundError
from shared.protocol import admin
from shared.server.rpc import lock_key


async def lock_uid(session: AsyncSession, uid: str) -> None:
    """Lock this machine's request against others until the transaction ends."""
    await session.execute(select(func.pg_advisory_xact_lock(lock_key(f"mdm:claim_request:{uid}"))))


async def claim(session: AsyncSession, claim_id: str, *, lock: bool = False) -> Claim:
    """Return a claim, locked if asked, or raise NotFoundError."""
    found = await session.get(Claim, claim_id, with_for_update=lock)
    if found is None:
        raise NotFoundError(f"claim: there is no claim {claim_id}", claim=claim_id)
    return found


async def of_request(session: AsyncSession, origin: str) -> Claim | None:
    """Return the claim that an earlier delivery of an admin's request has created."""
    found: Claim | None = await session.scalar(select(Claim).where(Claim.request_id == origin))
    return found


async def newest(session: AsyncSession, wanted: admin.ClaimList, *, now: datetime) -> list[Claim]:
    """Return the newest claims, without revoked or expired ones unless `all` are requested."""
    query = select(Claim).order_by(Claim.created_at.desc(), Claim.id).limit(wanted.limit)
    if not wanted.all:
        query = query.where(Claim.revoked_at.is_(None), Claim.expires_at > now)
    return list(await session.scalars(query))


async def live_of(session: AsyncSession, model: DeviceModel, *, now: datetime) -> int:
    """Return how many claims of a model are neither revoked nor expired."""
    query = select(func.count()).select_from(Claim).where(Claim.model_id == model.id)
    return await session.scalar(query.where(Claim.revoked_at.is_(None), Claim.expires_at > now)) or 0


async def models(session: AsyncSession) -> dict[int, str]:
    """Return the code of each model, by id."""
    return {row[0]: row[1] for row in await session.execute(select(DeviceModel.id, DeviceModel.code))}


async def taken(session: AsyncSession, claims: list[Claim]) -> dict[str, Taken]:
    """Return the used and waiting counts of each of these claims, by id."""
    counted = dict.fromkeys((claim.id for claim in claims), Taken())
    rows = await session.execute(
        select(
            ClaimRequestRow.claim_id,
            func.count().filter(ClaimRequestRow.state == "granted"),
            func.count().filter(ClaimRequestRow.state == "pending"),
        )
        .where(one_of(ClaimRequestRow.claim_id, counted))
        .group_by(ClaimRequestRow.claim_id)
    )
    return counted | {claim_id: Taken(used, waiting) for claim_id, used, waiting in rows}


async def request(session: AsyncSession, uid: str) -> ClaimRequestRow:
    """Return the stored request of a machine, or raise NotFoundError."""
    found = await session.get(ClaimRequestRow, uid)
    if found is None:
        raise NotFoundError(f"uid: {uid} has not requested an identity", uid=uid)
    return found


async def device(session: AsyncSession, request: ClaimRequestRow) -> Device:
    """Return the device that a machine became, or raise NotFoundError if it has just been removed."""
    found = await session.get(Device, request.device_id)
    if found is None:
        raise NotFoundError(f"uid: the device of {request.uid} is gone", uid=request.uid)
    return found


async def request_views(session: AsyncSession, wanted: admin.ClaimRequests) -> list[admin.ClaimRequestView]:
    """Return up to `limit` matching machines after `after`, by uid."""
    query = _views().order_by(ClaimRequestRow.uid).limit(wanted.limit)
    if wanted.after is not None:
        query = query.where(ClaimRequestRow.uid > wanted.after)
    if wanted.claim is not None:
        query = query.where(ClaimRequestRow.claim_id == wanted.claim)
    if wanted.state is not None:
        query = query.where(ClaimRequestRow.state == wanted.state)
    return [_view(*row) for row in await session.execute(query)]


async def request_view(session: AsyncSession, uid: str) -> admin.ClaimRequestView:
    """Return the view of a known machine."""
    return _view(*(await session.execute(_views().where(ClaimRequestRow.uid == uid))).one())


def _views() -> Select[ClaimRequestRow, str, str | None]:
    return (
        select(ClaimRequestRow, DeviceModel.code, Device.key)
        .join(Claim, Claim.id == ClaimRequestRow.claim_id)
        .join(DeviceModel, DeviceModel.id == Claim.model_id)
        .outerjoin(Device, Device.id == ClaimRequestRow.device_id)
    )


def _view(request: ClaimRequestRow, code: str, key: str | None) -> admin.ClaimRequestView:
    client_id = device_refs.client_id(code, key) if key else None
    return admin.ClaimRequestView.from_row(request, claim=request.claim_id, model=code, client_id=client_id)


async def every(session: AsyncSession) -> set[str]:
    """Return the ids of all claims."""
    return set(await session.scalars(select(Claim.id)))


async def reachable(session: AsyncSession, *, window: timedelta) -> set[str]:
    """Return the ids of all claims that must have a broker account, see `claim_rules.is_reachable`."""
    still = Claim.expires_at > datetime.now(UTC) - window
    return set(await session.scalars(select(Claim.id).where(Claim.revoked_at.is_(None), still)))
