"""Logs: one line an event, name first, then fields; to stderr."""

import logging
import sys

import structlog

from muster.settings import SettingInvalid

_LEVELS = ("debug", "info", "warning", "error")


def set_up_logging(level: str) -> None:
    if level not in _LEVELS:
        raise SettingInvalid(f"log_level is {level!r}; it must be one of {', '.join(_LEVELS)}.")
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Plain: the default shows every local variable, secrets among them.
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING), format="%(message)s")
