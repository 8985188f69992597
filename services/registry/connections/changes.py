"""Operations that change which connection profiles are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from services.registry import connection_rules, rules
from services.registry.connection_rules import ConnectionLayers, Scope
from services.registry.connections import layers as connection_layers
from services.registry.connections import queries as connection_queries
from services.registry.connections.effects import effect
from services.registry.context import Registry
from shared import authorities
from shared.database.tables import ConnectionLayer
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.protocol import admin
from shared.server.rpc import RequestContext

log = structlog.get_logger()
_FIELDS: Final = (
    "mqtt_host",
    "mqtt_port",
    "mqtt_tls",
    "mqtt_auth",
    "token_url",
    "ca_certificate",
    "recovery_port",
)


@dataclass(frozen=True, slots=True)
class ConnectionChanges:
    """The operations of admins that change layers of connection profiles."""

    registry: Registry

    async def set(self, context: RequestContext, request: admin.ConnectionSet) -> admin.ConnectionEffect:
        """Change a layer of connection profiles; its devices are sent what they want then."""
        scope, client_id = await connection_queries.scope_of(context.session, request)
        now = await self._layers(context)
        new = self._edited(now.at(scope), scope, request)
        return await self._replace(context, now, new, client_id, action="connection.set", dry_run=request.dry_run)

    async def remove(self, context: RequestContext, request: admin.ConnectionRemove) -> admin.ConnectionEffect:
        """Remove a layer, or raise NotFoundError."""
        scope, client_id = await connection_queries.scope_of(context.session, request)
        now = await self._layers(context)
        if now.at(scope) is None:
            raise NotFoundError(f"there is no layer of connection profiles for {client_id or scope}")
        gone = ConnectionLayer(
            scope=scope.kind, tag=scope.tag, device_id=scope.device_id, document={}, removed=True
        )
        return await self._replace(
            context, now, gone, client_id, action="connection.remove", dry_run=request.dry_run
        )

    async def rollback(self, context: RequestContext, request: admin.ConnectionRollback) -> admin.ConnectionEffect:
        """Put the content of an old layer in force again; its devices' profile gets its former id."""
        old = await connection_queries.layer(context.session, request.number)
        if old.scope == "settings":
            raise ConflictError(
                f"number: layer {old.number} is from the registry's settings; change these, or set a layer for all"
            )
        now = await self._layers(context)
        again = ConnectionLayer(
            scope=old.scope,
            tag=old.tag,
            device_id=old.device_id,
            priority=old.priority,
            document=old.document,
            wifi=old.wifi,
            trial_seconds=old.trial_seconds,
            removed=old.removed,
        )
        client_id = await connection_queries.client_id(context.session, old.device_id)
        return await self._replace(
            context, now, again, client_id, action="connection.rollback", dry_run=request.dry_run
        )

    async def retry(self, context: RequestContext, request: admin.ConnectionTarget) -> admin.ConnectionRetried:
        """Let devices be sent the profile that they want again at once."""
        scope, client_id = await connection_queries.scope_of(context.session, request)
        devices = await connection_queries.allow_resend(context.session, scope)
        context.audit("connection.retry", client_id or str(scope))
        connection_layers.push_after_commit(context.session, self.registry)
        return admin.ConnectionRetried(devices=devices)

    async def _layers(self, context: RequestContext) -> ConnectionLayers:
        await connection_queries.lock(context.session)
        return await connection_queries.in_force(context.session, self.registry.connection_base)

    async def _replace(
        self,
        context: RequestContext,
        now: ConnectionLayers,
        new: ConnectionLayer,
        client_id: str | None,
        *,
        action: str,
        dry_run: bool,
    ) -> admin.ConnectionEffect:
        scope = connection_rules.scope_of(new)
        old = now.at(scope)
        before, after = _facts(old), _facts(None if new.removed else new)
        changed = not rules.same(before, after)
        new.author = context.account
        if dry_run:
            new.number = (now.revision or 0) + 1  # in memory only
        elif changed:
            context.audit(action, client_id or str(scope), before=before, after=after)
            await connection_layers.add(context.session, self.registry, new, client_id)
        else:
            await connection_queries.allow_resend(context.session, scope)
            connection_layers.push_after_commit(context.session, self.registry)
        return await effect(
            context.session,
            now,
            now.changed(new) if changed else now,
            number=new.number if changed and not dry_run else None,
            changed=changed,
            try_brokers=dry_run,
        )

    def _edited(self, old: ConnectionLayer | None, scope: Scope, request: admin.ConnectionSet) -> ConnectionLayer:
        """Return a layer with the changes of a request; one without any value is removed."""
        given = request.model_dump(include={*_FIELDS, "trial_seconds", "priority"}, exclude_none=True)
        if not given and request.wifi is None and not request.unset:
            raise InvalidInputError("at least one value, or unset, must be given")
        if request.priority is not None and request.tag is None:
            raise InvalidInputError("priority: is for layers of tags only")
        document: dict[str, Any] = dict(old.document) if old is not None else {}
        document |= {name: value for name, value in given.items() if name in _FIELDS}
        if request.ca_certificate is not None:
            document["ca_certificate"] = _authorities(request.ca_certificate)
        wifi = old.wifi if old is not None else None
        if request.wifi is not None:
            vault = self.registry.instance.vault
            known = connection_layers.networks(vault, wifi)
            names = connection_layers.named(request.wifi, known, document.get("wifi", []))
            if names != document.get("wifi"):  # else the ciphertext stays, too
                document["wifi"], wifi = names, connection_layers.encrypted(vault, request.wifi)
        for name in request.unset:
            document.pop(name, None)
        trial_seconds = given.get("trial_seconds", old.trial_seconds if old is not None else None)
        if "trial_seconds" in request.unset:
            trial_seconds = None
        return ConnectionLayer(
            scope=scope.kind,
            tag=scope.tag,
            device_id=scope.device_id,
            priority=given.get("priority", old.priority if old is not None else 0),
            document=document,
            wifi=wifi if "wifi" in document else None,
            trial_seconds=trial_seconds,
            removed=not document and trial_seconds is None,
        )


def _authorities(pem: str) -> str:
    found = authorities.read(pem, field="ca_certificate")
    authorities.refuse_unusable(found, now=datetime.now(UTC), field="ca_certificate")
    return authorities.normalized(found)


def _facts(layer: ConnectionLayer | None) -> dict[str, object] | None:
    """Return the content of a layer, which has no secret."""
    if layer is None:
        return None
    return {"document": layer.document, "priority": layer.priority, "trial_seconds": layer.trial_seconds}
