"""Commands: sent to devices once, answered or not, and deleted after a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from services.registry.commands import queries as command_queries
from services.registry.commands.queries import CommandTarget
from services.registry.context import Registry
from shared.database import device_refs
from shared.database.engine import Database
from shared.database.tables import CommandRow
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.protocol import admin, events, messages, topics
from shared.server.rpc import RequestContext, fitting


@dataclass(frozen=True, slots=True)
class CommandService:
    """The operations of admins on commands, and the results of devices."""

    registry: Registry

    async def send(self, context: RequestContext, request: admin.CommandSend) -> admin.CommandSent:
        """Send a command to all selected devices that are enabled, or to none at all."""
        targets, skipped = await _targets(context, request)
        batch_id, now = uuid4(), datetime.now(UTC)
        expires_at = now + timedelta(seconds=request.expires_in_s)
        rows: list[dict[str, Any]] = []
        sent: list[admin.CommandRef] = []
        for target in targets:
            client_id = device_refs.client_id(target.model, target.key)
            message = messages.Command(
                command_id=uuid4(), name=request.name, arguments=request.arguments, expires_at=expires_at
            )
            rows.append(
                {
                    "id": message.command_id,
                    "batch_id": batch_id,
                    "device_id": target.device_id,
                    "name": request.name,
                    "arguments": request.arguments,
                    "author": context.account,
                    "created_at": now,
                    "expires_at": expires_at,
                }
            )
            sent.append(admin.CommandRef(client_id=client_id, command_id=message.command_id))
            self.registry.outbox.put(
                context.session, topics.COMMAND, message, expires_at=expires_at, client_id=client_id
            )
        await command_queries.add(context.session, rows)
        facts = events.CommandBatchFacts(
            batch_id=batch_id, name=request.name, devices=len(sent), skipped=len(skipped)
        )
        self.registry.outbox.emit(context.session, events.COMMAND_SENT, None, facts)
        asked = request.model_dump(mode="json", exclude={"request_id"}, exclude_none=True)
        subject = sent[0].client_id if request.device is not None else str(batch_id)
        context.audit("command.send", subject, after={**asked, **facts.to_data()})
        return admin.CommandSent(batch_id=batch_id, expires_at=expires_at, commands=sent, skipped=skipped)

    async def show(self, context: RequestContext, request: admin.CommandShow) -> admin.CommandBatch:
        """Return the state of a batch, and a page of its devices."""
        now = datetime.now(UTC)
        counts: Counter[str] = Counter()
        for (ok, expires_at), count in (await command_queries.counts(context.session, request.batch_id)).items():
            counts[rules.command_outcome(ok=ok, expires_at=expires_at, now=now)] += count
        if not counts:
            raise NotFoundError(f"batch_id: there is no batch {request.batch_id}", batch_id=str(request.batch_id))
        rows = await command_queries.batch(context.session, request)
        page = _page(rows, now)
        is_last = len(rows) < request.limit and len(page) == len(rows)
        return admin.CommandBatch(
            batch_id=request.batch_id,
            counts=admin.CommandCounts(**counts),
            commands=page,
            next=None if is_last else rows[len(page) - 1][0].device_id,
        )

    async def list_newest(self, context: RequestContext, request: admin.CommandList) -> admin.Commands:
        """Return the newest commands."""
        if request.device is not None:
            await queries.device(context.session, request.device)
        rows = await command_queries.newest(context.session, request)
        return admin.Commands(commands=_page(rows, datetime.now(UTC)))

    async def record_result(self, client_id: str, answer: messages.CommandResult) -> None:
        """Store a device's answer, also a late one; only the first one counts."""
        async with self.registry.database.transaction() as session:
            command = await command_queries.command(session, answer.command_id, client_id)
            if command.answered_at is not None:
                return
            command.answered_at = datetime.now(UTC)
            command.ok, command.result, command.error = answer.ok, answer.result, answer.error
            facts = events.CommandAnswerFacts(
                command_id=command.id,
                batch_id=command.batch_id,
                name=command.name,
                ok=answer.ok,
                error=answer.error,
            )
            self.registry.outbox.emit(session, events.COMMAND_ANSWERED, client_id, facts)

    async def send_again(self, session: AsyncSession, client_ids: Sequence[str]) -> None:
        """Send the waiting commands of devices that are online now, as the broker may have lost them (ADR 0015).

        Idempotent: a device executes no command twice.
        """
        for command, client_id in await command_queries.waiting(session, client_ids, now=datetime.now(UTC)):
            message = messages.Command(
                command_id=command.id,
                name=command.name,
                arguments=command.arguments,
                expires_at=command.expires_at,
            )
            self.registry.outbox.put(
                session, topics.COMMAND, message, expires_at=command.expires_at, client_id=client_id
            )


async def forget(database: Database, *, before: datetime) -> None:
    """Delete the commands that were sent before this time (UTC)."""
    async with database.transaction() as session:
        await command_queries.forget(session, before=before)


async def _targets(context: RequestContext, request: admin.CommandSend) -> tuple[list[CommandTarget], list[str]]:
    """Return the targets, and the client ids of disabled devices; raise if there are no targets."""
    found = await command_queries.targets(context.session, request, limit=admin.MAX_BATCH + 1)
    if not found:
        raise device_refs.unknown(request.device) if request.device else NotFoundError("no device matches")
    if len(found) > admin.MAX_BATCH:
        raise InvalidInputError(f"more than {admin.MAX_BATCH} devices match; select by tag or model")
    enabled = [target for target in found if target.enabled]
    skipped = [device_refs.client_id(target.model, target.key) for target in found if not target.enabled]
    if not enabled:
        raise ConflictError("every matching device is disabled", skipped=skipped)
    for model, listed in {target.model: target.commands for target in enabled}.items():
        known = rules.known_commands(listed)
        if request.name not in known:
            raise InvalidInputError(
                f"name: the model {model} has no command {request.name}; it has {', '.join(known)}",
                model=model,
                commands=known,
            )
    return enabled, skipped


def _page(rows: Iterable[tuple[CommandRow, str]], now: datetime) -> list[admin.CommandView]:
    return fitting(_view(command, client_id, now) for command, client_id in rows)


def _view(command: CommandRow, client_id: str, now: datetime) -> admin.CommandView:
    outcome = rules.command_outcome(ok=command.ok, expires_at=command.expires_at, now=now)
    return admin.CommandView.from_row(command, command_id=command.id, client_id=client_id, outcome=outcome)
