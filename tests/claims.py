"""Claims for tests, and machines without an identity, run by the reference device."""

from __future__ import annotations

import secrets
from pathlib import Path

from dev.fleet import OPTIONS, Fleet, PowerCutError
from device.claim import Machine
from device.options import Hooks
from shared import crypto
from shared.protocol import admin
from shared.protocol.admin import ClaimPackage, ClaimView, Package


def new_uid() -> str:
    """Return a MAC address that no other test has."""
    return secrets.token_hex(6)


async def new_claim(fleet: Fleet, model: str | None = None, **fields: object) -> ClaimPackage:
    """Make a claim, for one machine unless more `uses` are given, and return its package."""
    password = crypto.new_secret().get_secret_value()
    added = await fleet.ask(admin.CLAIM_ADD, model=model or await fleet.model(), password=password, **fields)
    return package_of(added, password)


def package_of(added: admin.ClaimAdded, password: str) -> ClaimPackage:
    """Return the package of a claim."""
    return ClaimPackage(account=added.claim, password=password, **added.model_dump())


async def show(fleet: Fleet, claim: ClaimPackage) -> ClaimView:
    """Return a claim as an admin sees it."""
    found = await fleet.ask(admin.CLAIM_LIST, all=True)
    return next(view for view in found.claims if view.claim == claim.account)


async def switched_on(claim: ClaimPackage, uid: str, state: Path, *, cut_at: str | None = None) -> Package | None:
    """Run a machine until it has its identity, or until its power is cut: then None."""

    def fault(point: str) -> None:
        if point == cut_at:
            raise PowerCutError

    machine = Machine(claim, uid, state, options=OPTIONS, hooks=Hooks(fault=fault))
    try:
        return await machine.package()
    except PowerCutError:
        return None
