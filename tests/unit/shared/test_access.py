"""What an admin account of each role may do, as it is derived from the declared operations."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.broker.acl import acls
from shared.protocol import admin
from shared.protocol.admin import OPERATIONS, AccountName, Role

NAMES = TypeAdapter(AccountName)


def test_a_role_may_all_that_a_lower_one_may() -> None:
    viewer, operator, full = (
        {acl.topic for acl in acls("alice", role) if acl.allow} for role in Role if role is not Role.APP
    )
    assert viewer < operator < full


def test_a_consumer_has_the_devices_own_topics_and_nothing_of_the_protocol() -> None:
    allowed = {(acl.acltype, acl.topic) for acl in acls("nodered", Role.APP) if acl.allow}
    assert allowed == {("publishClientReceive", "app/+/up/#"), ("publishClientSend", "app/+/down/#")}
    denied = {(acl.acltype, acl.topic) for acl in acls("nodered", Role.APP) if not acl.allow}
    assert denied == {("publishClientSend", "#"), ("publishClientReceive", "#"), ("subscribePattern", "$share/#")}


def test_no_request_is_for_consumers() -> None:
    assert [operation.name for operation in OPERATIONS.values() if Role.APP.includes(operation.role)] == []


@pytest.mark.parametrize(
    "operation",
    [
        *(
            admin.DEVICE_PROVISION,
            admin.DEVICE_REISSUE,
            admin.DEVICE_REMOVE,
            admin.MODEL_REMOVE,
            admin.COREDUMP_READ,
        ),
        *(admin.COREDUMP_READ, admin.COREDUMP_DELETE),
        *(admin.CLAIM_ADD, admin.CLAIM_REVOKE, admin.CLAIM_APPROVE, admin.CLAIM_DENY, admin.CLAIM_FORGET),
        *(admin.KEY_ADD, admin.KEY_REMOVE, admin.SECRETS_REKEY, admin.COREDUMP_REKEY, admin.DOCTOR_REPAIR),
        *(admin.ACCOUNT_ADD, admin.ACCOUNT_ROLE, admin.ACCOUNT_PASSWORD, admin.ACCOUNT_REMOVE, admin.IMAGE_DELETE),
    ],
)
def test_what_shows_a_secret_or_cannot_be_taken_back_is_for_admins_only(
    operation: admin.Operation[admin.Request, admin.Result],
) -> None:
    assert operation.role is Role.ADMIN


def test_a_viewer_changes_nothing() -> None:
    changing = {operation.name for operation in OPERATIONS.values() if operation.once}
    reading = {operation.name for operation in OPERATIONS.values() if operation.role is Role.VIEWER}
    assert reading
    # It takes so long that a repeated request must not begin it again.
    assert changing & reading == {admin.DOCTOR.name, admin.FIRMWARE_DOCTOR.name}


def test_all_declared_operations_are_known() -> None:
    assert {"registry.device.list", "rotator.rotation.start", "firmware.upload.chunk"} <= {
        operation.name for operation in OPERATIONS.values()
    }
    assert len({operation.name for operation in OPERATIONS.values()}) == len(OPERATIONS)


@pytest.mark.parametrize(
    "name",
    [
        *("admin", "schedule", "retention", "svc-registry", "svc-x", "iotdevice-lamp-abcd1234", "claim-abcd1234"),
        *("a", "Alice", "a/b", "a+", "a#", "$alice", "ä-b", "a b", "1st", "-a", "a" * 41, "al\n", ""),
    ],
)
def test_a_name_that_is_anothers_or_a_wildcard_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        NAMES.validate_python(name)


@pytest.mark.parametrize("name", ["alice", "bob-2", "ci_bot", "admin2", "claims", "svc"])
def test_other_names_are_free(name: str) -> None:
    assert NAMES.validate_python(name) == name
