"""A bare client that asks for a device's secret as one does that is refused, with whatever key."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
from joserfc.jwk import OKPKey

from dev.waiting import until
from device.key import KEY_FILE
from shared import crypto
from shared.protocol import messages, topics
from shared.protocol.admin import Package

NOTHING_S = 3.0
"""After so long there is no answer."""


@dataclass(frozen=True, slots=True)
class Recovering:
    """The claims listener with the public account, as a package names it."""

    package: Package

    @staticmethod
    def key_of(state: Path) -> OKPKey:
        """Return the key in a reference device's flash."""
        return OKPKey.import_key(json.loads((state / KEY_FILE).read_bytes()))

    async def answered(self, pair: OKPKey) -> Package:
        """Ask with a key until there is an answer, however long it takes; return the package that it holds."""
        found = await until(lambda: self.ask(pair))
        assert found is not None
        return found

    async def ask(self, pair: OKPKey, *, client_id: str | None = None) -> Package | None:
        """Ask with a key, for the package's device or another one; return the package that the answer holds."""
        recovery, wanted = self.package.recovery, client_id or self.package.client_id
        assert recovery is not None
        nonce = secrets.token_hex(16)
        client = aiomqtt.Client(
            self.package.mqtt_host,
            recovery.port,
            username=recovery.account,
            password=recovery.password,
            identifier=recovery.account,
            tls_context=ssl.create_default_context(cadata=self.package.ca_certificate),
        )
        mac = crypto.recovery_mac(pair, recovery.server_key, wanted, nonce)
        async with client:
            await client.subscribe(topics.RECOVER_ANSWER.of(account=recovery.account, nonce=nonce), qos=1)
            request = topics.RECOVER_REQUEST.encode(
                messages.RecoverRequest(client_id=wanted, nonce=nonce, mac=mac)
            )
            await client.publish(topics.RECOVER_REQUEST.of(account=recovery.account), request, qos=1)
            try:
                async with asyncio.timeout(NOTHING_S):
                    message = await anext(client.messages)
            except TimeoutError:
                return None
        assert isinstance(message.payload, bytes)
        sealed = topics.RECOVER_ANSWER.decode(message.payload).jwe
        return Package.model_validate_json(crypto.unseal(sealed, pair).get_secret_value())
