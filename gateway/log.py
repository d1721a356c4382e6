"""Structured logs from an allow-list of keys: whatever else is passed is left out, so that no value of a person gets in."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

__all__ = ["ALLOWED", "configure_logging"]

ALLOWED: Final = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "kind",
        "correlation",
        "delivery",
        "fault",
        "known_client",
        "where",
        "reason",
        "count",
        "seconds",
        "port",
    }
)


def configure_logging(level: int = logging.INFO) -> None:
    """JSON lines on standard error. Library loggers are held at WARNING: their INFO lines print addresses and queries."""
    structlog.configure(
        processors=[
            _only_allowed,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('{"level":"%(levelname)s","logger":"%(name)s","event":"%(module)s"}'))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _only_allowed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: value for name, value in event.items() if name in ALLOWED}
