"""The baseline for HTTP: a plain service with Starlette and SQLAlchemy that gives the registry's answers.

`python -m dev.bench.plain_http PORT`, with the database's URL in the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import uvicorn
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from shared.database import device_refs
from shared.database.engine import POOL_SIZE
from shared.database.tables import Device, DeviceConfig, DeviceModel
from shared.protocol import messages, topics

DATABASE_URL: Final = "PLAIN_DATABASE_URL"


def main() -> None:
    """Serve until terminated."""
    # No time limit for a connection, as a thousand clients send requests at once.
    engine = create_async_engine(os.environ[DATABASE_URL], pool_size=POOL_SIZE, max_overflow=0, pool_timeout=600)

    async def answer(request: Request) -> Response:
        query = (
            select(Device, DeviceConfig)
            .join(DeviceModel, DeviceModel.id == Device.model_id)
            .join(DeviceConfig, DeviceConfig.device_id == Device.id)
            .where(DeviceConfig.version == Device.config_version)
            .where(device_refs.named(request.path_params["client_id"]))
        )
        async with AsyncSession(engine) as session:
            device, config = (await session.execute(query)).one()
        found = messages.Config(
            request_id=request.path_params["request_id"],
            version=config.version,
            document=config.document,
            secret_generation=device.secret_generation,
        )
        return Response(topics.CONFIG.encode(found), media_type="application/json")

    uvicorn.run(
        Router([Route("/{client_id}/{request_id}", answer)]),
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=600,
    )


if __name__ == "__main__":
    main()
