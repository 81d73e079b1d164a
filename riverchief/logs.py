"""Structured logging on standard error, without secrets; docs/operations/monitoring.md lists the fields."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from riverchief.settings import LogSection

QUIETED_LOGGERS = ("httpx", "httpcore", "urllib3")
"""Libraries that log addresses, secrets in them included, below the level of a warning."""


class _Named(structlog.PrintLogger):
    """A logger that prints to standard error and has a name."""

    def __init__(self, *name: Any) -> None:
        # asked anew each time: whoever replaces standard error must not leave us writing to a closed one
        super().__init__(sys.stderr)
        self.name = str(name[0]) if name else ""


def _add_logger(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


class _ToStderr(logging.Handler):
    """Handler that writes log records of libraries in our format."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def configure(settings: LogSection) -> None:
    """Set up structlog and the standard library's logging alike."""
    level = getattr(logging, settings.level.upper())
    stamped: Sequence[Processor] = (
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    )
    final: Sequence[Processor] = (
        (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False))
        if settings.json_lines
        else (structlog.processors.format_exc_info, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    )
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _add_logger, *stamped, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Named,
        cache_logger_on_first_use=False,
    )
    foreign = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *stamped],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_ToStderr(foreign)], force=True)
    for name in QUIETED_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
