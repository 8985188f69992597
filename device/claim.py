"""Claiming an identity: a machine requests one with a claim's account until it is answered.

Its key is stored before the first request, and its package before the first use: after a power failure at any
point, the machine requests again with the same key and gets the same identity.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from joserfc.jwk import OKPKey
from pydantic import TypeAdapter, ValidationError

from device import durable
from device import package as packages
from device.agent import backoff_s
from device.key import load_or_make
from device.link import Link, LinkLostError, LoginRefusedError, claim_login, tls_context
from device.options import Hooks, Options
from device.uplink import Uplink
from shared import crypto
from shared.errors import InvalidInputError, MessageRefusedError
from shared.protocol import topics
from shared.protocol.admin import ClaimPackage, Package
from shared.protocol.messages import ClaimAnswer, ClaimRequest, Uid

PACKAGE_FILE: Final = "package.json"
_UID: Final = TypeAdapter(Uid)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with a claim package, a `uid` of its own and its flash in `state`.

    Fault points: `device.key` and `claim.package`, each with `:before`, `:written` and `:after`;
    `publish.claim.request:before` and `:after`.
    """

    claim: ClaimPackage
    uid: str
    state: Path
    options: Options = field(default_factory=Options)
    hooks: Hooks = field(default_factory=Hooks)

    async def package(self) -> Package:
        """Return the machine's provisioning package, requested until it is granted and stored durably.

        Raise InvalidInputError for a bad uid or package, or StateUnreadableError if its files are unusable.
        """
        try:
            _UID.validate_python(self.uid)
        except ValidationError:
            raise InvalidInputError("uid: must be 12 or 16 hexadecimal digits in lower case") from None
        durable.make_folder(self.state)
        path = self.state / PACKAGE_FILE
        if path.exists():
            return packages.load(path)
        login, tls = claim_login(self.claim, self.uid), tls_context(self.claim)
        key = load_or_make(self.state, fault=self.hooks.fault)
        failures = 0
        while True:
            try:
                link = await Link.connect(login, self.options, tls=tls)
                failures = 0
                try:
                    package = await self._talk(link, key)
                finally:
                    link.drop()
            except LinkLostError as error:
                failures += 1
                pause_s = backoff_s(failures, self.options, _fraction())
                self._record("claim.lost", error=error.message, pause_s=round(pause_s, 1))
            except LoginRefusedError as error:
                # Revoked or expired; or the broker has lost the account, which a person must repair.
                pause_s = self._retry_s()
                self._record("claim.login_refused", error=error.message, pause_s=round(pause_s, 1))
            else:
                data = package.model_dump_json().encode()
                durable.write(path, data, name="claim.package", fault=self.hooks.fault)
                self._record("claim.stored", identity=package.client_id)
                return package
            await asyncio.sleep(pause_s)

    def _retry_s(self) -> float:
        return self.options.claim_retry_s * (0.5 + _fraction() / 2)

    def _record(self, event: str, **facts: object) -> None:
        Uplink(self.uid, self.hooks).record(event, **facts)

    async def _talk(self, link: Link, key: OKPKey) -> Package:
        """Repeat the request until a package comes; one that an admin approves later comes unrequested."""
        address = topics.CLAIM_ANSWER.of(claim_id=self.claim.account, uid=self.uid)
        await link.subscribe(address)
        receiving = asyncio.ensure_future(self._answer(link, address))
        try:
            while True:
                if not receiving.done():
                    await self._send(link, ClaimRequest(uid=self.uid, public_key=crypto.public_half(key)))
                await asyncio.wait([receiving], timeout=self.options.retry_s)
                if not receiving.done():
                    continue
                answer = receiving.result()
                receiving = asyncio.ensure_future(self._answer(link, address))
                self._record(f"claim.{answer.outcome.value}", reason=answer.reason)
                package = _opened(answer, key)
                if package is not None:
                    return package
                await asyncio.wait([receiving], timeout=self._retry_s())
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])
            if not receiving.cancelled():
                receiving.exception()

    async def _send(self, link: Link, request: ClaimRequest) -> None:
        topic = topics.CLAIM_REQUEST
        self.hooks.fault("publish.claim.request:before")
        address = topic.of(claim_id=self.claim.account)
        await link.publish(address, topic.encode(request), qos=topic.qos, retain=topic.retain)
        self.hooks.fault("publish.claim.request:after")

    @staticmethod
    async def _answer(link: Link, address: str) -> ClaimAnswer:
        """Return the next message that is an answer; others are dropped."""
        while True:
            topic, payload = await link.receive()
            try:
                if topic == address:
                    return topics.CLAIM_ANSWER.decode(payload)
            except MessageRefusedError:
                continue


def _opened(answer: ClaimAnswer, key: OKPKey) -> Package | None:
    """Return the package in an answer, or None if none is sealed for this key."""
    if answer.jwe is None:
        return None
    try:
        package = Package.model_validate_json(crypto.unseal(answer.jwe, key).get_secret_value())
        packages.check(package)
    except (crypto.SecretUnreadableError, ValidationError, InvalidInputError):
        return None
    return package


def _fraction() -> float:
    """Return a random share of a pause: a whole batch may be switched on at once."""
    return random.random()  # noqa: S311 - a pause is no secret
