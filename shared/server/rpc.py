"""The RPC server for admin requests: idempotent by request_id; every request is answered, a refusal has a reason.

The account is taken from the topic, where the broker checks it; an answer is published only below that account's
own reply topics, so that a request cannot make a service publish anywhere else (ADR 0001).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

import structlog
from pydantic import SecretStr
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared import crypto
from shared.database.engine import POOL_SIZE, Database, Transactions
from shared.database.tables import AdminRequest, AuditEntry
from shared.errors import ConflictError, FleetError, MessageRefusedError
from shared.mqtt.connection import Connection, Delivery, Route
from shared.protocol import admin, sealed
from shared.protocol.admin import Answer, Operation, Problem, Request, Result

log = structlog.get_logger()

SEALED: Final = "sealed"
"""Key in a recorded answer: the whole answer, encrypted."""
_PAGE_BYTES: Final = 1024 * 1024
"""Limit of bytes of views in one answer: the broker accepts twice as much."""
R = TypeVar("R", bound=Request)
A = TypeVar("A", bound=Result)


def fitting(views: Iterable[A]) -> list[A]:
    """Return the first views, as many as fit into one answer, but at least one if there is one."""
    page: list[A] = []
    size_bytes = 0
    for view in views:
        size_bytes += len(view.model_dump_json().encode())
        if page and size_bytes > _PAGE_BYTES:
            break
        page.append(view)
    return page


def lock_key(origin: str) -> ColumnElement[int]:
    """Return the key of the advisory lock that is held while the request of this origin is processed."""
    return func.hashtextextended(origin, 0)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The requesting account, and the transaction in which the answer will be recorded."""

    account: str
    request_id: str
    session: AsyncSession

    def on(self, session: AsyncSession) -> RequestContext:
        """Return the context in another transaction, for data that must be stored before the answer."""
        return replace(self, session=session)

    @property
    def origin(self) -> str:
        """The request's name, unique over all accounts."""
        return f"{self.account}/{self.request_id}"

    def audit(self, action: str, subject: str, *, before: object = None, after: object = None) -> None:
        """Record an action of the account in the audit log, in the same transaction."""
        self.session.add(
            AuditEntry(
                actor=self.account,
                action=action,
                subject=subject,
                before=sealed.shown(before),
                after=sealed.shown(after),
            )
        )


@dataclass(frozen=True, slots=True)
class RpcServer:
    """Handles the requests of a service and publishes the answers."""

    database: Transactions
    connection: Connection
    vault: crypto.Vault | None = None
    """Encrypts recorded answers that have a secret; only needed for such operations."""
    # A request may need a second transaction while its own is open: bounded, so that requests never wait for each
    # other's connections, and some are left for the devices' messages.
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(POOL_SIZE // 2 - 1))

    def route(
        self,
        operation: Operation[R, A],
        handler: Callable[[RequestContext, R], Awaitable[A]],
        *,
        group: str | None,
    ) -> Route:
        """Return the route of an operation, whose requests `handler(caller, request)` answers."""

        async def handle(delivery: Delivery) -> None:
            account = delivery.names["account"]
            response_topic = _checked(delivery.response_topic, account)
            answer = await self._answer(operation, handler, account, delivery.payload)
            await self.connection.publish(
                response_topic,
                admin.REPLY.encode(answer),
                correlation_data=delivery.correlation_data,
            )

        return Route(operation.topic, handle, group)

    async def _answer(
        self,
        operation: Operation[R, A],
        handler: Callable[[RequestContext, R], Awaitable[A]],
        account: str,
        payload: bytes,
    ) -> Answer:
        try:
            request = operation.topic.decode(payload)
            return await self._once(operation, handler, account, request)
        except FleetError as error:
            log.info("request.refused", operation=operation.name, account=account, reason=error.message)
            problem = Problem(code=error.code, message=error.message, details=error.details)
        except Exception:
            log.exception("request.crashed", operation=operation.name, account=account)
            problem = Problem(code="internal", message="the service failed; see its log")
        return Answer(ok=False, error=problem)

    async def _once(
        self,
        operation: Operation[R, A],
        handler: Callable[[RequestContext, R], Awaitable[A]],
        account: str,
        request: R,
    ) -> Answer:
        async with self.gate, self.database.transaction() as session:
            context = RequestContext(account, request.request_id, session)
            if not operation.once:
                return Answer(ok=True, result=(await handler(context, request)).model_dump(mode="json"))
            await session.execute(select(func.pg_advisory_xact_lock(lock_key(context.origin))))
            known = await session.get(AdminRequest, (account, request.request_id))
            if known is not None and known.operation != operation.name:
                raise ConflictError(f"request_id: was already used for {known.operation}")
            if known is not None:
                return Answer.model_validate(self._opened(known.answer))
            answer = Answer(ok=True, result=(await handler(context, request)).model_dump(mode="json"))
            session.add(
                AdminRequest(
                    account=account,
                    request_id=request.request_id,
                    operation=operation.name,
                    answer=self._kept(operation, answer),
                )
            )
            return answer

    def _kept(self, operation: Operation[R, A], answer: Answer) -> dict[str, Any]:
        """Return the form of an answer that is recorded."""
        if not operation.secret:
            return answer.model_dump(mode="json")
        if self.vault is None:
            raise ValueError(f"{operation.name}: a server without a vault cannot record its answer")
        return {SEALED: self.vault.encrypt(SecretStr(answer.model_dump_json())).decode()}

    def _opened(self, kept: dict[str, Any]) -> object:
        """Return a recorded answer, or raise SecretUnreadableError."""
        if self.vault is None or SEALED not in kept:
            return kept
        return json.loads(self.vault.decrypt(str(kept[SEALED]).encode()).get_secret_value())


async def forget_answers(database: Database, *, before: datetime) -> None:
    """Delete the answers to requests from before this time (UTC), which nobody repeats any more."""
    async with database.transaction() as session:
        await session.execute(delete(AdminRequest).where(AdminRequest.answered_at < before))


def _checked(response_topic: str | None, account: str) -> str:
    names = admin.REPLY.match(response_topic or "")
    if response_topic is None or names is None or names["account"] != account or set(response_topic) & set("+#"):
        raise MessageRefusedError(f"response topic: must be {admin.REPLY.of(account=account, client_id='...')}")
    return response_topic
