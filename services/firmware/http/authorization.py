"""Authorization of image downloads over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from services.firmware import queries
from services.firmware.assignment.service import Assignment
from shared.auth.tokens import Holder, TokenRefusedError
from shared.database import device_refs
from shared.database.tables import FirmwareImage
from shared.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Downloads:
    """Finds the image for the holder of a valid token."""

    assignment: Assignment

    async def find(self, holder: Holder, sha256: str | None) -> FirmwareImage:
        """Return the requested image, by default the device's current one.

        Raise TokenRefusedError for a token that is no longer, or never was, that of an enabled device; and
        ImageNotForDeviceError as over MQTT.
        """
        async with self.assignment.firmware.database.transaction() as session:
            if not device_refs.is_client_id(holder.client_id):
                raise TokenRefusedError("azp: is not a device")
            try:
                device_id, model = await queries.device(session, holder.client_id)
            except NotFoundError:
                raise TokenRefusedError("azp: is not an enabled device") from None
            if holder.secret_generation not in await queries.secret_generations(session, device_id):
                raise TokenRefusedError(f"secret_gen: {holder.secret_generation} is not in force")
            if sha256 is None:
                return await self.assignment.current_image(session, holder.client_id)
            return await self.assignment.permitted_image(session, device_id, model, sha256)
