"""Change of the master key, for data encrypted at rest."""

from __future__ import annotations

from dataclasses import dataclass

from services.rotator import queries
from services.rotator.context import Rotator
from shared.crypto import SecretUnreadableError
from shared.errors import NotFoundError
from shared.protocol import admin, events
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class RekeyService:
    """The operation of admins on encrypted secrets."""

    rotator: Rotator

    async def rekey(self, context: RequestContext, _: admin.Nothing) -> admin.SecretsRekeyed:
        """Encrypt the secrets of each rotation in progress with the first master key; idempotent.

        Each is a transaction of its own on the leader's connection, so the caller's must be on another one.
        """
        async with self.rotator.leadership.transaction() as session:
            waiting = [rotation.id for rotation, _ in await queries.open_rotations(session)]
        reencrypted = 0
        unreadable: list[str] = []
        vault = self.rotator.vault
        for rotation_id in waiting:
            try:
                async with self.rotator.attempt(rotation_id) as attempt:
                    rotation = attempt.rotation
                    if rotation.new_secret is None:
                        continue  # it has ended in the meantime
                    try:
                        old = rotation.old_secret and vault.reencrypt(rotation.old_secret)
                        secrets = vault.reencrypt(rotation.new_secret), old
                    except SecretUnreadableError:
                        unreadable.append(attempt.client_id)
                        continue
                    rotation.new_secret, rotation.old_secret = secrets
                reencrypted += 1
            except NotFoundError:
                continue  # it has ended in the meantime, and its device is removed
        facts = events.RekeyFacts(reencrypted=reencrypted, unreadable=len(unreadable))
        context.audit("secrets.rekey", "secrets", after=facts.to_data())
        self.rotator.outbox.emit(context.session, events.SECRETS_REKEYED, None, facts)
        return admin.SecretsRekeyed(reencrypted=reencrypted, unreadable=admin.Named.of(unreadable))
