"""Verification of Keycloak's access tokens: signature, issuer, lifetime, and the device that holds the token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from shared.errors import FleetError, UnavailableError
from shared.runtime import metrics

log = structlog.get_logger()

AUDIENCE: Final = "mdm"
ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
)  # asymmetric only: with HS256 a public key would be a password
LEEWAY_S: Final = 10
REFETCH_S: Final = 10.0
"""Minimum between two fetches of the keys, so that invented key ids do not become requests to Keycloak."""
KEYS_FRESH_S: Final = 600.0
"""Age at which the keys are fetched again, so that a key that Keycloak has revoked does not count forever."""
_TIMEOUT_S: Final = 5.0


class TokenRefusedError(FleetError):
    """A token is not accepted; the message is for our log, not for the client."""

    code = "token_refused"


@dataclass(frozen=True, slots=True)
class Holder:
    """The client that a token was issued to, and the generation of the secret used to get it."""

    client_id: str
    secret_generation: int


class SigningKeys:
    """The public keys of a realm by key id, fetched on demand."""

    def __init__(self, realm_url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = f"{realm_url}/protocol/openid-connect/certs"
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._fetched_at = self._tried_at = -max(REFETCH_S, KEYS_FRESH_S)
        self._fetching = asyncio.Lock()

    async def get(self, kid: str) -> Key | None:
        """Return a key, or None if the realm has no such key.

        While Keycloak does not answer, known keys remain valid, and an unknown one raises UnavailableError.
        """
        known = self._keys.get(kid)
        if known is not None and (self._fetching.locked() or self._age < KEYS_FRESH_S):
            return known
        async with self._fetching:
            is_due = kid not in self._keys or self._age >= KEYS_FRESH_S
            if is_due and self._clock() - self._tried_at >= REFETCH_S:
                self._tried_at = self._clock()
                await self._fetch()
            found = self._keys.get(kid)
            if found is None and self._fetched_at < self._tried_at:
                raise UnavailableError("Keycloak does not answer (certs); retry")
            return found

    @property
    def _age(self) -> float:
        return self._clock() - self._fetched_at

    async def _fetch(self) -> None:
        """Fetch the keys; keep the old ones when Keycloak does not answer."""
        status = "unavailable"
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
                found = (await client.get(self._url)).raise_for_status().json()["keys"]
            status = "ok"
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            log.warning("keys.not_fetched", url=self._url, error=f"{type(error).__name__}: {error}")
            return
        finally:
            metrics.KEYCLOAK_OPERATIONS.labels("certs", status).inc()
        self._keys = _signing_keys(found)
        self._fetched_at = self._tried_at


class Tokens:
    """Verifies the access tokens of one realm."""

    def __init__(self, keys: SigningKeys, *, issuer: str) -> None:
        self._keys = keys
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            typ={"essential": True, "value": "Bearer"},
            azp={"essential": True},
            secret_gen={"essential": True},
        )

    async def holder(self, token: str) -> Holder:
        """Return the holder of a token; raise TokenRefusedError, or UnavailableError without its key."""
        try:
            header = jws.extract_compact(token.encode()).headers()
            kid, algorithm = header.get("kid"), header.get("alg")
            if algorithm not in ALGORITHMS:
                raise TokenRefusedError(f"alg: {algorithm!r} is not allowed")
            key = await self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise TokenRefusedError("kid: names no key of the realm")
            claims = jwt.decode(token, key, algorithms=[algorithm]).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise TokenRefusedError(f"{type(error).__name__}: {error}") from None
        client_id, generation = claims["azp"], claims["secret_gen"]
        if not isinstance(client_id, str) or type(generation) is not int:
            raise TokenRefusedError("azp, secret_gen: must be a string and an integer")
        return Holder(client_id, generation)


def tokens_of(keycloak_url: str, realm: str, *, public_url: str | None = None) -> Tokens:
    """Return the verifier for the tokens of a realm; `public_url`, if given, is the base of their issuer."""
    inner, outer = (f"{url.rstrip('/')}/realms/{realm}" for url in (keycloak_url, public_url or keycloak_url))
    return Tokens(SigningKeys(inner), issuer=outer)


def _signing_keys(found: list[dict[str, Any]]) -> dict[str, Key]:
    """Return the keys of a JWK Set (RFC 7517) that may sign tokens; unreadable ones are left out."""
    keys: dict[str, Key] = {}
    for one in found:
        if one.get("use") != "sig" or one.get("alg") not in ALGORITHMS or "kid" not in one:
            continue
        try:
            keys[one["kid"]] = JWKRegistry.import_key(one)
        except (JoseError, ValueError):
            continue
    return keys
