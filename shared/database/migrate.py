"""Migrates a database to the newest schema: `python -m shared.database.migrate`, with MDM_DATABASE_URL set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from shared.errors import InvalidInputError
from shared.runtime.environment import load
from shared.runtime.settings import DatabaseSettings

HEAD: Final = "head"


def config(url: str) -> Config:
    """Return Alembic's configuration for this database."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    configuration.attributes["url"] = url
    return configuration


def upgrade(url: str, revision: str = HEAD) -> None:
    """Run all migrations that are missing up to this one; idempotent.

    At the newest schema the services' users get their rights, in the same transaction (shared.database.grants).
    """
    configuration = config(url)
    configuration.attributes["grants"] = revision == HEAD
    command.upgrade(configuration, revision)


def knows(revision: str) -> bool:
    """Return whether this is one of our migrations."""
    scripts = ScriptDirectory.from_config(config(""))
    return revision in {script.revision for script in scripts.walk_revisions()}


if __name__ == "__main__":
    try:
        settings = load(DatabaseSettings)
    except InvalidInputError as error:
        sys.exit(f"migrate: {error.message}")
    upgrade(settings.database_url.get_secret_value())
