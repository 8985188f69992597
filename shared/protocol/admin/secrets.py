"""Operations on the secrets that are encrypted at rest."""

from __future__ import annotations

from shared.protocol.admin.names import Named
from shared.protocol.admin.operation import Nothing, Operation, Result


class SecretsRekeyed(Result):
    """How many are encrypted with the first master key now, and the devices of those that no key decrypts."""

    reencrypted: int
    unreadable: Named


RECOVERY_REKEY = Operation("registry", "secrets", "rekey", Nothing, SecretsRekeyed)
SECRETS_REKEY = Operation("rotator", "secrets", "rekey", Nothing, SecretsRekeyed)
