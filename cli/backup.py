"""`mdm backup` and `mdm restore`: the whole system in one encrypted file.

Unlike all other commands they run on the host of the services, with the services' settings in the environment, as
admins cannot read the devices' secrets through the broker (ADR 0012).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from backup import make
from backup import restore as restoring
from cli import bars, output, passwords, session, tables
from shared.errors import ConflictError, InvalidInputError
from shared.runtime import environment, settings

MIN_PASSPHRASE: Final = 12
_VARIABLE: Final = "MDM_BACKUP_PASSPHRASE"
_PARTS: Final = "database, keycloak, broker or images"

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup file.")]


def backup(
    ctx: typer.Context,
    file: File,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Back up the whole system into one encrypted file.

    The file contains database, secrets, broker accounts and images. Needs the settings of the services in the
    environment; the services may be running. The passphrase is MDM_BACKUP_PASSPHRASE, else a prompt asks for it.
    """
    here, ours = session.of(ctx), environment.load(settings.BackupSettings)
    if file.exists() and not force:
        raise ConflictError(f"FILE: {file} exists; --force replaces it")
    passphrase = passwords.read("passphrase", variable=_VARIABLE, twice=True)
    if len(passphrase.get_secret_value()) < MIN_PASSPHRASE:
        raise InvalidInputError(f"passphrase: must have at least {MIN_PASSPHRASE} characters")
    with _watched() as watch:
        made = asyncio.run(make.write(ours, file, passphrase, watch=watch))
    here.show(made, _print_made)
    if made.without_secret or made.missing_images:
        raise typer.Exit(1)


def restore(
    ctx: typer.Context,
    file: File,
    *,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PART", help=f"Part to restore: {_PARTS}; may be repeated.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a database that is not empty.")] = False,
) -> None:
    """Restore a backup, or parts of it.

    All services must be stopped. Data that still exists takes precedence over the backup. Needs the settings of
    the services in the environment. If it is interrupted, run it again.
    """
    here, ours = session.of(ctx), environment.load(settings.BackupSettings)
    try:
        parts = frozenset(map(restoring.Part, only or restoring.Part))
    except ValueError:
        raise InvalidInputError(f"--only: must be {_PARTS}") from None
    try:
        opened = file.open("rb")
    except OSError as error:
        raise InvalidInputError(f"FILE: {file} cannot be read: {error.strerror}") from error
    passphrase = passwords.read("passphrase", variable=_VARIABLE)
    with opened, _watched() as watch:
        restored = asyncio.run(restoring.Restore(ours, opened, passphrase, parts, watch).run(replace=replace))
    here.show(restored, _print_restored)
    if restored.without_secret or restored.newer or restored.unknown:
        raise typer.Exit(1)


@contextmanager
def _watched() -> Iterator[make.Watch]:
    with bars.progress(in_bytes=False) as bar:
        task = bar.add_task("")
        yield lambda doing, done, whole: bar.update(task, description=doing, completed=done, total=whole)


def _print_made(made: make.Made) -> None:
    tables.print_facts(
        made,
        (
            "created=created_at, devices, images, broker accounts=has_broker",
            "devices without a secret in Keycloak=without_secret",
            "images without content=missing_images",
        ),
    )
    if not made.has_broker:
        output.print_note(
            "the backup does not include the passwords of claims and admins: MDM_BROKER_ACCOUNTS_FILE is not set"
        )


def _print_restored(restored: restoring.Restored) -> None:
    tables.print_facts(
        restored,
        (
            "backup of=created_at, parts, devices, secrets restored to Keycloak=secrets_restored",
            "secrets already in Keycloak=secrets_kept, images, broker accounts=accounts_file",
            "without a secret=without_secret, with a newer secret than the backup=newer",
            "in a rotation at the backup=in_rotation, newer than the backup=adopted",
            "unknown to the backup=unknown",
        ),
    )
    if restored.adopted:
        output.print_note(
            "devices newer than the backup have no tags, and only their model's default configuration"
        )
    if restored.unknown:
        output.print_note("the registry removes devices that are unknown to the backup when it starts")
    if restored.without_secret or restored.newer:
        output.print_note("devices without a secret or with a newer one need `mdm device reissue`")
    if restored.secrets_restored:
        output.print_note(
            f"secrets that were changed after {output.cell(restored.created_at)} are not restored; "
            "devices that do not come online (see `mdm device list`) need `mdm device reissue`"
        )
