"""The certificate with which images are served: its files may be replaced while the service runs."""

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
    """Certificate and key of a server that is about to run, or runs; there may be none."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._seen = self._look()

    def _look(self) -> tuple[bytes, ...]:
        files = (self._config.ssl_certfile, self._config.ssl_keyfile)
        return tuple(Path(file).read_bytes() for file in files if file is not None)

    async def keep(self) -> None:
        """Look now and then, until cancelled; connections that are open go on."""
        while self._seen:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self.renew()
            except (OSError, ssl.SSLError) as error:
                log.warning("http.certificate_not_renewed", error=str(error))

    def renew(self) -> None:
        """Let new connections see what the files hold now; a pair that does not fit raises SSLError."""
        found = self._look()
        context = self._config.ssl
        if found == self._seen or context is None or self._config.ssl_certfile is None:
            return
        pair = (self._config.ssl_certfile, self._config.ssl_keyfile)
        # On another one first: what does not fit would break the one in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)
        context.load_cert_chain(*pair)
        self._seen = found
        log.info("http.certificate_renewed")
