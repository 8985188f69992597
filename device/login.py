"""The credentials of a login: the secret, or a token that Keycloak issues for it.

Each login uses a new token. So a login with a slot's token proves that Keycloak has that slot's secret in force,
and the rules of the slots are the same as with a broker that has the secret itself.
"""

from __future__ import annotations

import ssl

import httpx
from pydantic import SecretStr

from device.link import Link, LinkLostError, LoginRefusedError, device_login, trust_of
from device.options import Options
from device.rotation import Slot
from shared.auth import client_token
from shared.auth.client_token import CredentialsRefusedError
from shared.errors import UnavailableError
from shared.protocol.admin import Package


async def connect(package: Package, slot: Slot, options: Options, *, tls: ssl.SSLContext | None) -> Link:
    """Log in with a slot, or raise LoginRefusedError or LinkLostError.

    With `either`, any failure of the token is followed by the secret, also while Keycloak is unavailable.
    """
    auth = options.mqtt_auth or package.mqtt_auth
    if auth != "password":
        try:
            token = await _token(package, slot, options)
            return await Link.connect(device_login(package, token, slot.generation, options), options, tls=tls)
        except (LoginRefusedError, LinkLostError):
            if auth == "token":
                raise
    return await Link.connect(device_login(package, slot.secret, slot.generation, options), options, tls=tls)


async def _token(package: Package, slot: Slot, options: Options) -> SecretStr:
    try:
        async with httpx.AsyncClient(verify=trust_of(package), timeout=options.answer_timeout_s) as client:
            return SecretStr(await client_token.fetch(client, package.token_url, package.client_id, slot.secret))
    except CredentialsRefusedError as error:
        raise LoginRefusedError(error.message) from error
    except UnavailableError as error:
        raise LinkLostError(error.message) from error
