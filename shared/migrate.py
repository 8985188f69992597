"""Bring a database to the newest schema: `python -m shared.migrate`, with MDM_DATABASE_URL set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def config(url: str) -> Config:
    """Return Alembic's configuration for this database."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    configuration.attributes["url"] = url
    return configuration


def upgrade(url: str, revision: str = "head") -> None:
    """Run all migrations that are missing up to this one; running it again changes nothing."""
    command.upgrade(config(url), revision)


def knows(revision: str) -> bool:
    """Say whether this is one of our migrations."""
    scripts = ScriptDirectory.from_config(config(""))
    return revision in {script.revision for script in scripts.walk_revisions()}


if __name__ == "__main__":
    if "MDM_DATABASE_URL" not in os.environ:
        sys.exit("MDM_DATABASE_URL: must be set, as postgresql+asyncpg://user:password@host/database")
    upgrade(os.environ["MDM_DATABASE_URL"])
