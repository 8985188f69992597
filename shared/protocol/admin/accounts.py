"""Operations on the accounts of admins, and what an account may ask of itself."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, Field

from shared.protocol.admin.operation import Nothing, Operation, Removed, Request, Result, Role

BUILT_IN: Final = "admin"
"""The account that the broker's own files hold; it has all rights, and no operation changes it."""
# Accounts of others, and the names by which the product signs what it does by itself in the audit log.
_PREFIXES: Final = ("svc-", "iotdevice-", "claim-", "recover-")
_RESERVED: Final = (BUILT_IN, "schedule", "retention", "backup")


def _is_free(name: str) -> str:
    if name in _RESERVED or name.startswith(_PREFIXES):
        reserved = ", ".join((*_RESERVED, *(f"{prefix}..." for prefix in _PREFIXES)))
        raise ValueError(f"must be none of the reserved names ({reserved})")
    return name


AccountName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{1,39}$"), AfterValidator(_is_free)]
Password = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$", repr=False)]
"""Made by who asks, of 256 random bits, so that no service has to keep it for a request that comes twice."""


class AccountAdd(Request):
    """Make an account of an admin with this role and password."""

    name: AccountName
    role: Role
    password: Password


class AccountRef(Request):
    """Name an account."""

    name: AccountName


class AccountRole(Request):
    """Give an account another role; its sessions are ended."""

    name: AccountName
    role: Role


class AccountPassword(Request):
    """Give an account another password, or make it again in a broker that lost it; its sessions are ended."""

    name: AccountName
    password: Password


class AccountView(Result):
    """An account; `present` says whether the broker has it, with the rights of its role."""

    name: str
    role: Role
    author: str
    created_at: AwareDatetime
    present: bool


class Accounts(Result):
    """All accounts of admins but the built-in one, by name."""

    accounts: list[AccountView]


class WhoAmI(Result):
    """The account that asks, and its role."""

    account: str
    role: Role


ACCOUNT_ADD = Operation("registry", "account", "add", AccountAdd, AccountView)
ACCOUNT_LIST = Operation("registry", "account", "list", Nothing, Accounts, once=False)
ACCOUNT_ROLE = Operation("registry", "account", "role", AccountRole, AccountView)
ACCOUNT_PASSWORD = Operation("registry", "account", "password", AccountPassword, AccountView)
ACCOUNT_REMOVE = Operation("registry", "account", "remove", AccountRef, Removed)
ACCOUNT_WHOAMI = Operation("registry", "account", "whoami", Nothing, WhoAmI, once=False, role=Role.VIEWER)
