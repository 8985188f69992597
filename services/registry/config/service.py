"""Configurations: set, compared, rolled back, requested by devices and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.registry import batch_queries, queries, rules
from services.registry.batch_queries import Asking, ConnectedDevice
from services.registry.config import sealing, versions
from services.registry.context import Registry
from shared.crypto import SecretUnreadableError
from shared.database import device_refs
from shared.database.tables import AuditEntry, Device, DeviceConfig, DeviceModel, Presence
from shared.errors import ConflictError
from shared.protocol import admin, events, messages, sealed
from shared.protocol.messages import ConfigOutcome
from shared.protocol.topics import Topic
from shared.runtime.microbatch import MicroBatcher
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class Configs:
    """The operations of admins on configurations, and the requests and reports of devices."""

    registry: Registry
    lookups: MicroBatcher[str, Asking | None] = field(default_factory=MicroBatcher)
    """By client id."""

    async def set(self, context: RequestContext, request: admin.ConfigSet) -> admin.ConfigSetResult:
        """Make and push a new version of a device's configuration, unless nothing changes."""
        await queries.lock_layers(context.session)
        row = await queries.device(context.session, request.device, lock=True)
        old = await queries.config(context.session, row[0])
        if request.expected_version not in {None, old.version}:
            is_known = (request.expected_version or 0) < old.version
            now = f"{old.author} saved version {old.version} in the meantime; review it and retry"
            raise ConflictError(
                f"expected_version: {now if is_known else f'the desired version is {old.version}'}",
                version=old.version,
                author=old.author,
            )
        seals = sealing.Seals(self.registry.instance.vault, device_refs.client_id(row[1].code, row[0].key))
        overrides = seals.accept(request.overrides, old.overrides, where="overrides")
        trial_seconds = request.trial_seconds
        if not request.replace:
            overrides = rules.merge(old.overrides, overrides)
            trial_seconds = trial_seconds or versions.open_trial(old)
        return await self._write(context, row, overrides, action="config.set", trial_seconds=trial_seconds)

    async def rollback(self, context: RequestContext, request: admin.ConfigRollback) -> admin.ConfigSetResult:
        """Make and push a new version with the overrides of an old one."""
        await queries.lock_layers(context.session)
        row = await queries.device(context.session, request.device, lock=True)
        old = await queries.config_version(context.session, row[0], request.version)
        return await self._write(context, row, old.overrides, action="config.rollback")

    async def get(self, context: RequestContext, request: admin.ConfigVersionGet) -> admin.ConfigView:
        """Return one version of a device's configuration."""
        device, model, presence = await queries.device(context.session, request.device)
        version = request.version or device.config_version
        config = await queries.config_version(context.session, device, version)
        return admin.ConfigView.from_row(
            config,
            client_id=device_refs.client_id(model.code, device.key),
            desired=device.config_version,
            reported=presence.config_version,
            reported_outcome=presence.config_outcome,
        )

    async def history(self, context: RequestContext, request: admin.ConfigHistory) -> admin.ConfigVersions:
        """Return a page of the versions of a device's configuration."""
        device, model, _ = await queries.device(context.session, request.device)
        found = await queries.config_versions(context.session, device, request)
        return admin.ConfigVersions(
            client_id=device_refs.client_id(model.code, device.key),
            desired=device.config_version,
            versions=[admin.ConfigEntry.from_row(config) for config in found],
            next=found[-1].version if len(found) == request.limit else None,
        )

    async def diff(self, context: RequestContext, request: admin.ConfigDiff) -> admin.ConfigChanges:
        """Return the differences between two versions of a device's configuration."""
        device, model, _ = await queries.device(context.session, request.device)

        async def document(version: int) -> dict[str, Any]:
            if not version:
                return {}
            return sealed.shown((await queries.config_version(context.session, device, version)).document)

        target = device.config_version if request.to_version is None else request.to_version
        start = max(target - 1, 0) if request.from_version is None else request.from_version
        changes = rules.diff(await document(start), await document(target))
        return admin.ConfigChanges(
            client_id=device_refs.client_id(model.code, device.key),
            from_version=start,
            to_version=target,
            changes=[admin.ConfigChange.from_row(change) for change in changes],
        )

    async def answer(
        self, client_id: str, request: messages.ConfigGet
    ) -> tuple[Topic[messages.Config], messages.Config, ConnectedDevice]:
        """Return a device's configuration, its topic, and the connection; no document if it has this version."""
        asking = await self.lookups.submit(client_id)
        if asking is None:
            raise device_refs.unknown(client_id)
        topic, answer = versions.message(
            self.registry.instance.vault,
            asking.desired,
            client_id,
            request_id=request.request_id,
            have=request.have_version,
        )
        return topic, answer, asking.connected

    async def run_lookups(self) -> None:
        """Read the configurations that devices request, in batches, until cancelled."""
        await self.lookups.run(self._asking)

    async def _asking(self, client_ids: Sequence[str]) -> Sequence[Asking | None]:
        async with self.registry.database.transaction() as session:
            return await batch_queries.asking(session, client_ids)

    async def record_report(self, client_id: str, report: messages.ConfigReport) -> None:
        """Store the outcome of a version on a device; one that failed its trial is replaced."""
        async with self.registry.database.transaction() as session:
            is_reverted = report.outcome is ConfigOutcome.REVERTED
            if is_reverted:
                await queries.lock_layers(session)
            row = await queries.device(session, client_id, lock=is_reverted)
            config = await session.get(DeviceConfig, (row[0].id, report.version))
            if config is not None:
                config.outcome, config.reported_at = report.outcome.value, datetime.now(UTC)
            presence = await queries.presence(session, client_id)
            presence.config_version = report.version
            presence.config_outcome = report.outcome
            presence.config_error = self._unquoted(report.error, config, client_id)
            said = events.ConfigReportFacts(
                version=report.version, outcome=report.outcome, error=presence.config_error
            )
            self.registry.outbox.emit(session, events.CONFIG_REPORTED, client_id, said)
            if config is None or config.trial_seconds is None or config.version != row[0].config_version:
                return
            if is_reverted:
                good = await versions.restore(session, self.registry, row, config)
                facts = events.ConfigRestoreFacts(
                    reverted=report.version, restored=good, version=row[0].config_version
                )
                session.add(
                    AuditEntry(
                        actor=client_id,
                        action="config.restore",
                        subject=client_id,
                        before=sealed.shown(config.overrides),
                        after=facts.to_data(),
                    )
                )
                self.registry.outbox.emit(session, events.CONFIG_RESTORED, client_id, facts)

    def _unquoted(self, error: str | None, config: DeviceConfig | None, client_id: str) -> str | None:
        """Return a device's reason without sealed values of its configuration that it quotes."""
        if error is None or config is None:
            return error
        try:
            return sealing.unquoted(
                error, sealing.opened(self.registry.instance.vault, config.document, client_id)
            )
        except SecretUnreadableError:
            return "the reason is not shown: it may quote a sealed value, which no master key opens"

    async def _write(
        self,
        context: RequestContext,
        row: tuple[Device, DeviceModel, Presence],
        overrides: dict[str, Any],
        *,
        action: str,
        trial_seconds: int | None = None,
    ) -> admin.ConfigSetResult:
        device, model, _ = row
        client_id = device_refs.client_id(model.code, device.key)
        before = (await queries.config(context.session, device)).overrides
        seals = sealing.Seals(self.registry.instance.vault, client_id)
        seals.know(before)
        overrides = seals.seal(overrides, model.sealed or [])
        layers = await queries.layers(context.session)
        document = await versions.document_of(
            self.registry, model, device.tags, overrides, layers=layers, key=device.key
        )
        changed = await versions.write(
            context.session,
            self.registry,
            device,
            client_id,
            overrides=overrides,
            document=document,
            author=context.account,
            trial_seconds=trial_seconds,
        )
        if changed:
            context.audit(action, client_id, before=before, after=overrides)
        return admin.ConfigSetResult(
            client_id=client_id, version=device.config_version, changed=changed, document=document
        )
