"""Who may fetch which image over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from services.firmware import db
from services.firmware.service import Firmware
from shared import names
from shared.errors import NotFoundError
from shared.schema import FirmwareImage
from shared.tokens import Holder, TokenRefusedError


@dataclass(frozen=True, slots=True)
class Downloads:
    """What the holder of a genuine token gets."""

    firmware: Firmware

    async def find(self, holder: Holder, sha256: str | None) -> FirmwareImage:
        """Return the image that a device asks for, its model's current one if it names none.

        Raise TokenRefusedError for a token that is no longer, or never was, that of an enabled device; and
        ImageNotForDeviceError as over MQTT.
        """
        async with self.firmware.database.transaction() as session:
            if not names.is_client_id(holder.client_id):
                raise TokenRefusedError("azp: is no device")
            try:
                device_id, model = await db.device(session, holder.client_id)
            except NotFoundError:
                raise TokenRefusedError("azp: is no enabled device") from None
            if holder.secret_generation not in await db.secret_generations(session, device_id):
                raise TokenRefusedError(f"secret_gen: {holder.secret_generation} is not in force")
            if sha256 is None:
                return await self.firmware.current_image(session, holder.client_id)
            return await self.firmware.permitted_image(session, device_id, model, sha256)
