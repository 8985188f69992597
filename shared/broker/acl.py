"""Rights in the broker of devices and admin accounts, derived from the declared topics and operations.

The ACLs of an admin account are a role of its own, with the account's name in their topics: a pattern in the
ACL file would apply to devices and claims too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.protocol import topics
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


def acls(account: str, role: Role) -> frozenset[Acl]:
    """Return all rights of an account; the final denial keeps the ACL file's patterns from applying."""
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
            # A shared subscription would take messages of others away from the services.
            Acl("subscribePattern", "$share/#", _EXCEPTION, allow=False),
            *(Acl(_SEND, operation.topic.of(account=account), _EXCEPTION, allow=True) for operation in allowed),
            *(Acl(_RECEIVE, topic, _EXCEPTION, allow=True) for topic in readable),
        ]
    )
