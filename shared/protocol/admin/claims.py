"""Operations on claims, by which machines get an identity, and on the requests of those machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.protocol.admin.names import ModelCode, Tags
from shared.protocol.admin.operation import Operation, Removed, Request, Result, Role
from shared.protocol.messages import BASE64URL, Uid
from shared.protocol.wording import pattern

ClaimId = Annotated[str, pattern(r"^claim-[a-z0-9]{8}$", "must be a claim, such as claim-abcd1234")]
ClaimState = Literal["live", "used up", "expired", "revoked"]
ClaimRequestState = Literal["pending", "granted", "denied"]
MAX_USES = 100_000
MAX_EXPIRES_S = 365 * 24 * 3600


class ClaimAdd(Request):
    """Create a claim and its broker account with this password, which no service stores.

    The client generates the password, so that a repeated request has one effect and one answer.
    """

    model: ModelCode
    tags: Tags = []
    uses: Annotated[int, Field(ge=1, le=MAX_USES)] = 1
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_EXPIRES_S)] = 24 * 3600
    needs_approval: bool = False
    password: Annotated[str, pattern(r"^[A-Za-z0-9_-]{43}$", BASE64URL, repr=False)]


class ClaimView(Result):
    """A claim; `used` machines have used it, `waiting` ones wait for an admin."""

    claim: str
    model: str
    tags: list[str]
    uses: int
    used: int
    waiting: int
    needs_approval: bool
    state: ClaimState
    expires_at: AwareDatetime
    author: str
    created_at: AwareDatetime


class ClaimAdded(ClaimView):
    """A new claim, and the address for its machines."""

    mqtt_host: str
    mqtt_port: int
    mqtt_tls: bool
    ca_certificate: str | None


class ClaimPackage(Result):
    """All that a machine needs to request an identity; whoever has it may request one."""

    format: Literal["mdm-claim/1"] = "mdm-claim/1"
    account: ClaimId
    password: Annotated[str, Field(min_length=1, repr=False)]
    mqtt_host: Annotated[str, Field(min_length=1)]
    mqtt_port: Annotated[int, Field(ge=1, le=65535)]
    mqtt_tls: bool
    ca_certificate: str | None
    expires_at: AwareDatetime


class ClaimList(Request):
    """List the newest claims: the live ones, or all."""

    all: bool = False
    limit: Annotated[int, Field(ge=1, le=500)] = 500


class ClaimViews(Result):
    """Claims, newest first."""

    claims: list[ClaimView]


class ClaimRef(Request):
    """Reference to a claim."""

    claim: ClaimId


class ClaimRequests(Request):
    """List a page of the requesting machines by uid; `after` is the `next` of the page before."""

    claim: ClaimId | None = None
    state: ClaimRequestState | None = None
    after: Uid | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 500


class ClaimRequestView(Result):
    """A requesting machine, and the device that it became."""

    uid: str
    claim: str
    model: str
    state: ClaimRequestState
    client_id: str | None
    requested_at: AwareDatetime
    granted_at: AwareDatetime | None


class ClaimRequestViews(Result):
    """A page of requesting machines; `next` is None on the last."""

    requests: list[ClaimRequestView]
    next: str | None = None


class ClaimRequestRef(Request):
    """Reference to the request of one machine."""

    uid: Uid


CLAIM_ADD = Operation("registry", "claim", "add", ClaimAdd, ClaimAdded)
CLAIM_LIST = Operation("registry", "claim", "list", ClaimList, ClaimViews, once=False, role=Role.VIEWER)
CLAIM_REVOKE = Operation("registry", "claim", "revoke", ClaimRef, ClaimView)
CLAIM_REQUESTS = Operation(
    "registry", "claim", "requests", ClaimRequests, ClaimRequestViews, once=False, role=Role.VIEWER
)
CLAIM_APPROVE = Operation("registry", "claim", "approve", ClaimRequestRef, ClaimRequestView)
CLAIM_DENY = Operation("registry", "claim", "deny", ClaimRequestRef, ClaimRequestView)
CLAIM_FORGET = Operation("registry", "claim", "forget", ClaimRequestRef, Removed)
