"""The certificate of the HTTPS server, reloaded when its files change."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog
import uvicorn

log = structlog.get_logger()
LOOK_EVERY_S: Final = 10.0


class Certificate:
    """Certificate and key of a server that is about to run, or runs; both may be absent."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._seen = self._read()

    def _read(self) -> tuple[bytes, ...]:
        files = (self._config.ssl_certfile, self._config.ssl_keyfile)
        return tuple(Path(file).read_bytes() for file in files if file is not None)

    async def watch(self) -> None:
        """Check the files periodically, until cancelled; open connections continue."""
        while self._seen:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self.renew()
            except (OSError, ssl.SSLError) as error:
                log.warning("http.certificate_not_renewed", error=str(error))

    def renew(self) -> None:
        """Load the files for new connections; raise SSLError for a pair that does not match."""
        found = self._read()
        context = self._config.ssl
        if found == self._seen or context is None or self._config.ssl_certfile is None:
            return
        pair = (self._config.ssl_certfile, self._config.ssl_keyfile)
        # Into another context first: a pair that does not match would break the one in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)
        context.load_cert_chain(*pair)
        self._seen = found
        log.info("http.certificate_renewed")
