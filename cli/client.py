"""Requests and answers over MQTT 5, with reconnects and retries."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar
from uuid import uuid4

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import ValidationError

from cli import output, unreachable
from cli.durations import TIMEOUT_S
from cli.profile import Profile
from shared.errors import FleetError, InvalidInputError, MessageRefusedError
from shared.mqtt.client import Account, Client, entered
from shared.protocol import admin, topics
from shared.protocol.messages import Event

RESEND_S: Final = 2.0
_RECONNECT_S: Final = 0.5
_PACKET_TIMEOUT_S: Final = 10.0
_LOOK_S: Final = 0.5
"""Time for an answer, after which it matters whether the service is online."""
_ROLE_TIMEOUT_S: Final = 5.0
_NOT_AUTHORIZED: Final = 0x87
# aiomqtt and paho log warnings about failures that are retried here.
_SILENT: Final = logging.getLogger("mdm.cli.mqtt")
_SILENT.setLevel(logging.CRITICAL)

R = TypeVar("R", bound=admin.Request)
A = TypeVar("A", bound=admin.Result)
T = TypeVar("T")


class CannotConnectError(FleetError):
    """The broker cannot be reached or refuses the account."""

    code = "cannot_connect"


class NoAnswerError(FleetError):
    """No answer arrived in time; the request may or may not have been executed."""

    code = "no_answer"


class NotAllowedError(FleetError):
    """The broker does not accept the request from this account, as its role does not suffice."""

    code = "not_allowed"


class AnswerError(FleetError):
    """A service refused a request; `answer_code` is the service's code of the reason."""

    code = "refused"

    def __init__(self, code: str, message: str, details: dict[str, object]) -> None:
        super().__init__(message, **details)
        self.answer_code = code


class Admin:
    """A connection as an admin; entering it connects or raises CannotConnectError.

    It reconnects when it is lost later, while calls wait.
    """

    def __init__(self, profile: Profile, *, timeout_s: float = TIMEOUT_S) -> None:
        self._profile = profile
        self._connect_timeout_s = min(timeout_s, _PACKET_TIMEOUT_S)
        self._client_id = f"mdm-cli-{secrets.token_hex(8)}"
        self._reply_topic = admin.REPLY.of(account=profile.account, client_id=self._client_id)
        self._filters = [self._reply_topic]
        self._pending: dict[bytes, asyncio.Future[admin.Answer]] = {}
        self._services: dict[str, dict[str, bool]] = {}
        self._events: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._client: Client | None = None
        self._up = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tls_context = self._profile.tls_context()
        self._task = asyncio.create_task(self._keep_connected(), name="mqtt")
        up = asyncio.create_task(self._up.wait(), name="mqtt:up")
        try:
            await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
        except BaseException:
            await self._stop()
            raise
        finally:
            up.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def call(self, operation: admin.Operation[R, A], request: R, *, timeout_s: float = TIMEOUT_S) -> A:
        """Send the request, every RESEND_S until it is answered, and return the result; calls may be concurrent.

        Raise AnswerError if the service refuses it, NotAllowedError if the broker does, NoAnswerError after
        `timeout_s`, InvalidInputError if the request is too large to send.
        """
        payload = operation.topic.encode(request)
        if len(payload) > operation.topic.max_bytes:
            limit = operation.topic.max_bytes
            raise InvalidInputError(f"request: must be at most {limit} bytes, has {len(payload)}")
        correlation = secrets.token_bytes(16)
        loop = asyncio.get_running_loop()
        self._pending[correlation] = loop.create_future()
        looking = loop.call_later(_LOOK_S, self._note_offline, operation.service, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(
                    operation.topic.of(account=self._profile.account), payload, correlation, timeout_s
                )
        except _RefusedError:
            raise await self._not_allowed(operation) from None
        except TimeoutError:
            raise NoAnswerError(
                f"no answer from the {operation.service} service within {timeout_s:g} s: "
                f"check that it is running and that the account {self._profile.account} may use it"
            ) from None
        finally:
            looking.cancel()
            del self._pending[correlation]
        return _result(operation, answer)

    def _note_offline(self, service: str, timeout_s: float) -> None:
        """Print that no replica of a service is online, if its retained statuses say so."""
        replicas = self._services.get(service)
        if replicas and not any(replicas.values()):
            output.print_note(f"the {service} service is offline; waiting for it, up to {timeout_s:g} s")

    async def events(self, noun: str | None = None) -> AsyncIterator[tuple[str, str, Event]]:
        """Yield the noun, verb and content of each event from now on; skip unreadable ones."""
        chosen = topics.EVENT.of(noun=noun, verb="+") if noun else topics.EVENT.filter
        self._filters.append(chosen)
        if self._client is not None:
            # If the connection breaks here, the reconnect includes this subscription.
            with contextlib.suppress(aiomqtt.MqttError):
                await self._subscribe(self._client, [chosen])
        while True:
            topic, payload = await self._events.get()
            names = topics.EVENT.match(topic)
            if names is not None:
                with contextlib.suppress(MessageRefusedError):
                    yield names["noun"], names["verb"], topics.EVENT.decode(payload)

    async def _exchange(self, topic: str, payload: bytes, correlation: bytes, timeout_s: float) -> admin.Answer:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = self._reply_topic
        properties.CorrelationData = correlation
        properties.MessageExpiryInterval = math.ceil(timeout_s)
        answer = self._pending[correlation]
        ends: list[asyncio.Future[Any]] = [answer, self._task]
        while not answer.done():
            await self._up.wait()
            if self._client is not None:
                # If the connection breaks here, the request is sent again after the reconnect.
                with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                    async with asyncio.timeout(RESEND_S):
                        if await self._client.deliver(topic, payload, properties) == _NOT_AUTHORIZED:
                            raise _RefusedError
            await asyncio.wait(ends, timeout=RESEND_S, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
        return answer.result()

    async def _not_allowed(self, operation: admin.Operation[R, A]) -> NotAllowedError:
        """Return the error for a request that the broker refused, with the account's role if it is known."""
        has = ""
        if operation.name != admin.ACCOUNT_WHOAMI.name:
            with contextlib.suppress(FleetError):
                request = admin.Nothing(request_id=secrets.token_hex(16))
                me = await self.call(admin.ACCOUNT_WHOAMI, request, timeout_s=_ROLE_TIMEOUT_S)
                has = f"has the role {me.role}; "
        return NotAllowedError(
            f"your account {self._profile.account} {has or 'may not do this; '}"
            f"this needs the role {operation.role}",
            operation=operation.name,
        )

    async def _keep_connected(self) -> NoReturn:
        """Stay connected until cancelled; raise CannotConnectError if the first attempt fails."""
        connected_once = False
        while True:
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    client = await self._new_client()
                async with entered(client, timeout_s=self._connect_timeout_s):
                    await self._subscribe(client, self._filters)
                    self._client = client
                    self._up.set()
                    connected_once = True
                    async for message in client.messages:
                        self._on_message(message)
            except (aiomqtt.MqttError, FleetError, TimeoutError) as error:
                if not connected_once:
                    raise self._explained(error) from error
            finally:
                self._up.clear()
                self._client = None
            await asyncio.sleep(_RECONNECT_S)

    async def _new_client(self) -> Client:
        profile = self._profile
        account = Account(profile.host, profile.port, profile.account, profile.password, profile.token_url)
        return await account.client(
            self._client_id,
            tls_context=self._tls_context,
            logger=_SILENT,
            connect_timeout_s=self._connect_timeout_s,
        )

    async def _subscribe(self, client: aiomqtt.Client, filters: list[str]) -> None:
        async with asyncio.timeout(_PACKET_TIMEOUT_S):
            codes = await client.subscribe([(chosen, 1) for chosen in (*filters, topics.SERVICE_STATUS.filter)])
        # An account that may not read the statuses of services does without them.
        for chosen, code in zip(filters, codes, strict=False):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise CannotConnectError(
                    f"the broker refuses the subscription {chosen} to the account {self._profile.account}: {code}"
                )

    def _on_message(self, message: aiomqtt.Message) -> None:
        payload = message.payload if isinstance(message.payload, bytes) else b""
        names = topics.SERVICE_STATUS.match(str(message.topic))
        if names is not None:
            with contextlib.suppress(MessageRefusedError):
                online = topics.SERVICE_STATUS.decode(payload).online
                self._services.setdefault(names["name"], {})[names["instance"]] = online
            return
        if str(message.topic) != self._reply_topic:
            self._events.put_nowait((str(message.topic), payload))
            return
        answer = self._pending.get(getattr(message.properties, "CorrelationData", b""))
        if answer is None or answer.done():
            return
        try:
            # Not by REPLY.decode: the list of a large fleet may exceed the size limit of messages.
            answer.set_result(admin.Answer.model_validate_json(payload))
        except ValidationError as error:
            answer.set_exception(AnswerError("unreadable", f"answer: {topics.explain(error)}", {}))

    def _explained(self, error: Exception) -> CannotConnectError:
        if isinstance(error, CannotConnectError):
            return error
        uses_tls, timeout_s = self._tls_context is not None, self._connect_timeout_s
        return CannotConnectError(unreachable.reason(error, self._profile, uses_tls=uses_tls, timeout_s=timeout_s))

    async def _stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def run(work: Callable[[Admin], Awaitable[T]], profile: Profile, *, timeout_s: float = TIMEOUT_S) -> T:
    """Connect within `timeout_s` and run `work`."""

    async def connected() -> T:
        async with Admin(profile, timeout_s=timeout_s) as connection:
            return await work(connection)

    return asyncio.run(connected())


def build(operation: admin.Operation[R, A], **fields: object) -> R:
    """Return a new request, or raise InvalidInputError naming each invalid field and its rule."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return operation.request.model_validate({"request_id": uuid4().hex, **given})
    except ValidationError as error:
        raise InvalidInputError(topics.explain(error)) from None


class _RefusedError(Exception):
    """The broker acknowledged a request as not authorized."""


def _result(operation: admin.Operation[R, A], answer: admin.Answer) -> A:
    if answer.error is not None or not answer.ok:
        problem = answer.error or admin.Problem(code="unknown", message="refused without a reason")
        raise AnswerError(problem.code, problem.message, problem.details)
    try:
        return operation.result.model_validate(answer.result)
    except ValidationError as error:
        raise AnswerError(
            "unreadable", f"answer to {operation.name}: {topics.explain(error)}; this mdm may be too old", {}
        ) from None
