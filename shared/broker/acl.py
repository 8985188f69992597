"""Rights in the broker that its accounts file has, derived from the declared topics and operations.

The ACLs of an admin account are a role of its own, with the account's name in their topics: a pattern in the
ACL file would apply to devices and claims too. What the ACL file's patterns would allow an account that is no
device is denied here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.protocol import homeassistant, topics
from shared.protocol.admin import OPERATIONS, Role

_SEND: Final = "publishClientSend"
_RECEIVE: Final = "publishClientReceive"
# The plugin evaluates by priority; among equals, the first ACL that matches decides.
_RULE: Final = 0
_EXCEPTION: Final = 10


@dataclass(frozen=True, slots=True)
class Acl:
    """One entry of a role in the dynamic-security plugin."""

    acltype: str
    topic: str
    priority: int
    allow: bool


def _denial(acltype: str, topic: str) -> Acl:
    return Acl(acltype, topic, _EXCEPTION, allow=False)


# A shared subscription would take messages of others away from the services.
_UNSHARED: Final = _denial("subscribePattern", "$share/#")
DEVICE_ROLE: Final = "device"
CLAIM_ROLE: Final = "claim"
OTHER_ROLE: Final = "other"
GROUP_ROLES: Final[Mapping[str, tuple[Acl, ...]]] = {
    DEVICE_ROLE: (_UNSHARED,),
    OTHER_ROLE: (_UNSHARED,),
    # Accounts of claims, and those of recovery, whose passwords everybody knows.
    CLAIM_ROLE: (
        _UNSHARED,
        *(
            _denial(acltype, f"{prefix}/#")
            for prefix in (f"{topics.PREFIX}/d", topics.APP, homeassistant.PREFIX)
            for acltype in (_SEND, _RECEIVE)
        ),
    ),
}
"""The rights of the roles that many accounts share, by name."""


def acls(account: str, role: Role) -> frozenset[Acl]:
    """Return all rights of an account; the final denial keeps the ACL file's patterns from applying."""
    readable, writable = _app() if role is Role.APP else _admin(account, role)
    return frozenset(
        [
            Acl(_SEND, "#", _RULE, allow=False),
            Acl(_RECEIVE, "#", _RULE, allow=False),
            _UNSHARED,
            *(Acl(_SEND, topic, _EXCEPTION, allow=True) for topic in writable),
            *(Acl(_RECEIVE, topic, _EXCEPTION, allow=True) for topic in readable),
        ]
    )


def _app() -> tuple[list[str], list[str]]:
    return [topics.APP_UP.filter], [topics.APP_DOWN.filter]


def _admin(account: str, role: Role) -> tuple[list[str], list[str]]:
    readable = [
        f"{topics.PREFIX}/replies/{account}/#",
        topics.EVENT.filter,
        topics.SERVICE_STATUS.filter,
        topics.STATUS.filter,
    ]
    allowed = (operation for operation in OPERATIONS.values() if role.includes(operation.role))
    return readable, [operation.topic.of(account=account) for operation in allowed]
