"""Why there is no connection to the broker, in one sentence with the next step."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from shared.errors import FleetError

if TYPE_CHECKING:
    from cli.profile import Profile

_NOT_OF_THIS_HOST: Final = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_NOT_TRUSTED: Final = {18, 19, 20, 21}
"""X509_V_ERR of a certificate without a known issuer."""
_REFUSED: Final = {0x86, 0x87}
"""Bad user name or password, and not authorized (MQTT 5, 3.2.2.2)."""


def reason(error: BaseException, profile: Profile, *, uses_tls: bool, timeout_s: float) -> str:
    """Return the sentence for an error of the first connection."""
    place = f"{profile.host}:{profile.port}"
    chain = list(_chain(error))
    known = next(filter(None, (_known(cause, profile, place, timeout_s=timeout_s) for cause in chain)), None)
    if known is not None:
        return known
    if uses_tls and any(isinstance(cause, ssl.SSLError | ConnectionError) for cause in chain):
        return f"cannot connect to {place} with TLS: the port seems to be one without; check --port and --ca-file"
    if not uses_tls and not any(isinstance(cause, OSError) for cause in chain):
        return f"cannot connect to {place}: it closes the connection; if it requires TLS, set --ca-file"
    return f"cannot connect to {place}: {error or type(error).__name__}"


def _known(cause: BaseException, profile: Profile, place: str, *, timeout_s: float) -> str | None:
    """Return the sentence for a cause that decides it."""
    text = None
    match cause:
        case FleetError():
            text = f"cannot connect to {place} as {profile.account}: {cause.message}"
        case aiomqtt.MqttCodeError(rc=ReasonCode(value=code)) if code in _REFUSED:
            who = f"the account {profile.account} or its password"
            text = f"the broker at {place} refuses {who}; `mdm login` sets both"
        case aiomqtt.MqttCodeError():
            text = f"the broker at {place} refuses the connection: {cause.rc}"
        case ssl.SSLCertVerificationError():
            text = f"{place} cannot be trusted: {_fault(cause, profile)}"
        case socket.gaierror():
            text = f"cannot connect: the host {profile.host} is unknown; check --host and the network"
        case ConnectionRefusedError():
            text = (
                f"cannot connect to {place}: nothing listens there; check that the broker is running, and --port"
            )
        case TimeoutError():
            text = (
                f"cannot connect to {place}: no answer within {timeout_s:g} s; check --host, --port, the network"
            )
    return text


def _fault(error: ssl.SSLCertVerificationError, profile: Profile) -> str:
    if error.verify_code in _NOT_OF_THIS_HOST:
        return f"its certificate is of another host than {profile.host}; check --host"
    if error.verify_code in _NOT_TRUSTED:
        trusted = "the system" if profile.ca_file is None else str(profile.ca_file)
        return f"its certificate is of no authority in {trusted}; check --ca-file"
    return f"{error.verify_message}; check the certificate of the broker, and the clock of this machine"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it comes from; aiomqtt hides it by `from None`."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
