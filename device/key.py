"""The key that only this device has: created before its first login, registered once, used for recovery."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import SecretStr, ValidationError

from device import durable
from device import package as packages
from device.link import Link, LinkLostError, Login
from device.options import Hooks, Options
from device.slots import StateUnreadableError
from device.uplink import Outgoing, Uplink
from shared import crypto
from shared.errors import InvalidInputError, MessageRefusedError
from shared.protocol import messages, topics
from shared.protocol.admin import Package
from shared.protocol.messages import Recovery

KEY_FILE: Final = "device_key.json"
_CLAIM_KEY_FILE: Final = "claim_key.json"
"""The older file of the key, of devices that were claimed before all devices had one."""
KNOWN_FILE: Final = "recovery.json"
_REPEAT: Final = "key"
_RETRY_S: Final = 5.0
_AGAIN_S: Final = 24 * 3600.0


def load_or_make(state: Path, *, fault: durable.Fault) -> OKPKey:
    """Return the device's key pair, created and stored durably before its first use.

    Raise StateUnreadableError for a file without a key. Fault points: `device.key`, as durable.write.
    """
    durable.make_folder(state)
    path = next((it for it in (state / KEY_FILE, state / _CLAIM_KEY_FILE) if it.exists()), None)
    try:
        if path is not None:
            return OKPKey.import_key(json.loads(path.read_bytes()))
    except (JoseError, ValueError) as error:
        raise StateUnreadableError(f"{path}: is no key of this device") from error
    key = crypto.new_key_pair()
    data = json.dumps(key.as_dict(private=True)).encode()
    durable.write(state / KEY_FILE, data, name="device.key", fault=fault)
    return key


class DeviceKeyPair:
    """The key pair, and the server's answer about it; `recovery` is None until it can be used.

    Fault point: `device.recovery`, with `:before`, `:written` and `:after`.
    """

    def __init__(
        self, package: Package, state: Path, pair: OKPKey, uplink: Uplink, secret: Callable[[], SecretStr]
    ) -> None:
        """Load the server's answer; raise StateUnreadableError. The device is logged in with `secret`."""
        self.pair = pair
        self._secret = secret
        self._uplink = uplink
        self._path = state / KNOWN_FILE
        self._known = self._read()
        self._answered_at: float | None = None
        self.recovery = package.recovery if self._known is None else self._known

    @property
    def public(self) -> str:
        """The public half."""
        return crypto.public_half(self.pair)

    @property
    def is_busy(self) -> bool:
        """Whether the registration is not answered yet."""
        return self._answered_at is None

    def on_connected(self) -> None:
        """Register the key until the server has answered: once for each start, and each day.

        The row may have been restored from an older copy, or be that of a new package.
        """
        now = self._uplink.hooks.clock()
        if self._answered_at is None or now >= self._answered_at + _AGAIN_S:
            self._uplink.repeat(_REPEAT, self._next_message, every_s=_RETRY_S, slowing=True)

    def on_known(self, known: messages.DeviceKeyKnown) -> None:
        """Store the recovery settings; with another key than ours there are none."""
        self._uplink.stop(_REPEAT)
        self._answered_at = self._uplink.hooks.clock()
        if known.public_key != self.public:
            self._uplink.record("key.refused")
            return
        if known.recovery is not None and known.recovery != self._known:
            data = known.recovery.model_dump_json().encode()
            durable.write(self._path, data, name="device.recovery", fault=self._uplink.hooks.fault)
            self._known = self.recovery = known.recovery
            self._uplink.record("key.registered")

    def _next_message(self) -> Outgoing | None:
        proof = crypto.key_proof(self._secret(), self.public)
        return topics.KEY, messages.DeviceKey(public_key=self.public, proof=proof)

    def _read(self) -> Recovery | None:
        try:
            return Recovery.model_validate_json(self._path.read_bytes()) if self._path.exists() else None
        except ValidationError as error:
            raise StateUnreadableError(f"{self._path}: has no valid recovery settings") from error


async def recover(
    package: Package,
    recovery: Recovery,
    pair: OKPKey,
    options: Options,
    hooks: Hooks,
    *,
    tls: ssl.SSLContext | None,
) -> Package | None:
    """Request the secret in force, and return the device's package with it; None if there is no answer.

    Raise LinkLostError, or LoginRefusedError if there is no such account. Fault points: `publish.recover:before`
    and `:after`.
    """
    nonce = secrets.token_hex(16)
    login = Login(
        package.mqtt_host,
        recovery.port,
        username=recovery.account,
        password=SecretStr(recovery.password),
        client_id=recovery.account,
    )
    mac = crypto.recovery_mac(pair, recovery.server_key, package.client_id, nonce)
    link = await Link.connect(login, options, tls=tls)
    try:
        address = topics.RECOVER_ANSWER.of(account=recovery.account, nonce=nonce)
        await link.subscribe(address)
        request = messages.RecoverRequest(client_id=package.client_id, nonce=nonce, mac=mac)
        hooks.fault("publish.recover:before")
        await link.publish(
            topics.RECOVER_REQUEST.of(account=recovery.account),
            topics.RECOVER_REQUEST.encode(request),
            qos=topics.RECOVER_REQUEST.qos,
            retain=False,
        )
        hooks.fault("publish.recover:after")
        return _opened(await link.receive_within(options.answer_timeout_s), address, package, pair)
    except (MessageRefusedError, LinkLostError):
        return None
    finally:
        link.drop()


def _opened(received: tuple[str, bytes] | None, address: str, package: Package, pair: OKPKey) -> Package | None:
    """Return the package in an answer, or None if none is sealed for us."""
    if received is None or received[0] != address:
        return None
    answer = topics.RECOVER_ANSWER.decode(received[1])
    try:
        found = Package.model_validate_json(crypto.unseal(answer.jwe, pair).get_secret_value())
        packages.check(found)
    except (crypto.SecretUnreadableError, ValidationError, InvalidInputError):
        return None
    return found if found.client_id == package.client_id else None
