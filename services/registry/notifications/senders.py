"""Sends one message to a webhook, or through Apprise to a person."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from shared.errors import FleetError, InvalidInputError
from shared.protocol.admin import MAX_RULES

TIMEOUT_S: Final = 20.0
KEY_PREFIX: Final = "whsec_"
_WEBHOOKS: Final = ("http", "https")
_ERROR_MAX: Final = 300


class DeliveryError(FleetError):
    """A receiver did not take a message."""

    code = "not_delivered"


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message for a receiver: `facts` are for a webhook, `text` is for people."""

    id: str
    rule: str
    state: str
    text: str
    facts: dict[str, Any]


def is_webhook(url: str) -> bool:
    """Return whether a URL is that of a webhook, and not Apprise's."""
    return urlsplit(url).scheme in _WEBHOOKS


def shown(url: str) -> str:
    """Return what of a URL is no secret."""
    parts = urlsplit(url)
    if not is_webhook(url):
        return f"{parts.scheme}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/..."


def signature(key: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a webhook's message, as in Standard Webhooks 1.0.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    secret = base64.b64decode(key.removeprefix(KEY_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"


@dataclass(frozen=True, slots=True)
class Senders:
    """An HTTP client, and threads in which Apprise waits for its receivers, one for each rule."""

    client: httpx.AsyncClient
    threads: ThreadPoolExecutor

    async def send(self, url: str, key: str | None, message: OutgoingMessage) -> None:
        """Send a message, or raise DeliveryError."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if key is not None:
                    await self._to_webhook(url, key, message)
                else:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(self.threads, _through_apprise, url, message)
        except TimeoutError:
            raise DeliveryError(f"no answer within {TIMEOUT_S:g} s") from None

    async def _to_webhook(self, url: str, key: str, message: OutgoingMessage) -> None:
        body = json.dumps(message.facts, ensure_ascii=False, separators=(",", ":")).encode()
        timestamp = int(datetime.now(UTC).timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(key, message.id, timestamp, body),
        }
        try:
            # The answer's body is not read: it may have no end.
            async with self.client.stream("POST", url, content=body, headers=headers) as answer:
                if not answer.is_success:
                    raise DeliveryError(f"the receiver answered {answer.status_code}")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # Not its text, which may quote the URL.
            raise DeliveryError(f"no connection, or no answer: {type(error).__name__}") from error


@asynccontextmanager
async def opened() -> AsyncIterator[Senders]:
    """Open what is needed for sending for the block."""
    threads = ThreadPoolExecutor(MAX_RULES, thread_name_prefix="apprise")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as client:
            yield Senders(client, threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


async def check(url: str) -> None:
    """Raise InvalidInputError for a URL that is neither a webhook's nor Apprise's."""
    try:
        is_without_host = is_webhook(url) and not httpx.URL(url).host
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidInputError(f"url: {error}") from error
    if is_without_host:
        raise InvalidInputError("url: must name a host")
    if is_webhook(url):
        return
    if not await asyncio.to_thread(_is_known, url):
        raise InvalidInputError(
            "url: Apprise does not know such a URL; see https://github.com/caronc/apprise/wiki"
        )


class _Warnings(logging.Handler):
    """Collects what Apprise logs in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of this thread."""
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


def _is_known(url: str) -> bool:
    import apprise  # noqa: PLC0415 - it takes seconds and 50 MB, and most installations have no such rule

    return apprise.Apprise.instantiate(url) is not None


def _through_apprise(url: str, message: OutgoingMessage) -> None:
    import apprise  # noqa: PLC0415 - as above

    target, warnings, log = apprise.Apprise.instantiate(url), _Warnings(), logging.getLogger("apprise")
    log.addHandler(warnings)
    try:
        # Not by Apprise's own manager, which uses further threads.
        is_sent = target is not None and target.notify(title=f"{message.rule}: {message.state}", body=message.text)
    except Exception as error:  # each of its hundred services has errors of its own
        raise DeliveryError(f"Apprise could not deliver it: {type(error).__name__}") from error
    finally:
        log.removeHandler(warnings)
    if not is_sent:
        raise DeliveryError(" ".join(["Apprise could not deliver it:", *warnings.lines])[:_ERROR_MAX])
