"""The engine's log: one JSON object a line, of what was done and never of what was said."""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
from pathlib import Path

_LEVELS = {"tunedesk.engine": logging.INFO, "uvicorn": logging.WARNING}


class _OneObjectALine(logging.Formatter):
    """Writes a record as JSON: time (UTC), level, logger, message, and what `extra={"told": …}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "at": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Journal(logging.handlers.RotatingFileHandler):
    """The file of the log. Where the disk is full a line is lost, and nothing else is said or held up by it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let the line go: logging's own words for each of them would fill whatever reads our error output."""


def write_log(path: Path) -> logging.Handler:
    """Begin to write the engine's log to `path`, 3 x 2 MB at most, readable by the owner alone."""
    handler = _Journal(path, maxBytes=2_000_000, backupCount=2, encoding="utf-8")
    path.chmod(0o600)
    handler.setFormatter(_OneObjectALine())
    for name, level in _LEVELS.items():
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)
    return handler


def end_log(handler: logging.Handler) -> None:
    """Stop writing what `write_log` began."""
    for name in _LEVELS:
        logging.getLogger(name).removeHandler(handler)
    handler.close()
