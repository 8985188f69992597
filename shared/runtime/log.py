"""Structured logs with dotted event names: JSON in containers, coloured lines for people."""

from __future__ import annotations

import logging
import sys

import structlog

from shared.runtime.log_repeats import REPEATED, Repeats
from shared.runtime.settings import ProcessSettings


def configure(settings: ProcessSettings, *, service: str) -> None:
    """Send all logs, those of libraries included, to standard error in one format."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    )
    before: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder([REPEATED]), *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(Repeats())
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # httpx logs every request at INFO: the services log them in their own form.
    for library in ("httpx", "httpcore", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # Errors that aiomqtt raises too, and late answers to a cancelled call, as on shutdown.
    logging.getLogger("mqtt").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(service=service)
