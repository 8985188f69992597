"""What the broker lets devices write, and admin accounts read and write, made of what is declared.

The ACLs of an admin account are a role of its own. A role has topics with the account's name in them: a pattern of
the ACL file would hold for devices and claims too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.protocol import topics
from shared.protocol.admin import OPERATIONS, Role

_SEND: Final = "publishClientSend"
_RECEIVE: Final = "publishClientReceive"
# The plugin goes by priority, and by the first ACL that fits among equals.
_RULE: Final = 0
_EXCEPTION: Final = 10


@dataclass(frozen=True, slots=True)
class Acl:
    """One line of a role, as the dynamic-security plugin has it."""

    acltype: str
    topic: str
    priority: int
    allow: bool


def acls(account: str, role: Role) -> frozenset[Acl]:
    """Return all that an account may do; the refusal of everything else keeps the ACL file's patterns out."""
    readable = (
        f"{topics.PREFIX}/replies/{account}/#",
        topics.EVENT.filter,
        topics.SERVICE_STATUS.filter,
        topics.STATUS.filter,
    )
    allowed = (operation for operation in OPERATIONS.values() if role.includes(operation.role))
    return frozenset(
        [
            Acl(_SEND, "#", _RULE, allow=False),
            Acl(_RECEIVE, "#", _RULE, allow=False),
            # In a shared subscription it would take others' messages away from the services.
            Acl("subscribePattern", "$share/#", _EXCEPTION, allow=False),
            *(Acl(_SEND, operation.topic.of(account=account), _EXCEPTION, allow=True) for operation in allowed),
            *(Acl(_RECEIVE, topic, _EXCEPTION, allow=True) for topic in readable),
        ]
    )
