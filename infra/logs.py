"""Log lines: structured in the file, readable in the Prefect UI and on the terminal.

Every line goes through the standard library's logger `sluiceway`. Prefect takes it over where
PREFECT_LOGGING_EXTRA_LOGGERS names it (prefect.yaml does); the file has one JSON object a line.
"""

import datetime as dt
import json
import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from schemas.errors import SluicewayError

LOGGER = "sluiceway"


def configure_logging(
    pipeline: str, *, folder: Path, level: str = "INFO"
) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines go to `<folder>/<pipeline>_YYYYMMDD.log`, by the day in UTC.

    Calling it again changes folder and level. On the terminal, Prefect prints the readable line.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hand_over,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level.upper())
    # Several lines a second while a broker is away: for the file, where our own line points to.
    client = logging.getLogger("aiokafka")
    client.propagate = False
    for handler in [each for each in logger.handlers if isinstance(each, DailyFile)]:
        logger.removeHandler(handler)
        client.removeHandler(handler)
        handler.close()
    file = DailyFile(folder, pipeline)
    logger.addHandler(file)
    client.addHandler(file)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        prefect = logging.getLogger(name)
        if _without_traceback not in prefect.filters:
            prefect.addFilter(_without_traceback)
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(LOGGER)
    return bound


class DailyFile(logging.Handler):
    """Appends each line, as JSON, to the file of its day."""

    def __init__(self, folder: Path, pipeline: str) -> None:
        """Remember where; the folder is made with the first line."""
        super().__init__()
        self._folder = folder
        self._pipeline = pipeline
        self._has_complained = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a disk that refuses it is told on stderr, and the run goes on."""
        try:
            fields = getattr(record, "fields", {"event": record.getMessage()})
            line = json.dumps({"logger": record.name, **fields}, default=str, ensure_ascii=False)
            day = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._pipeline}_{day:%Y%m%d}.log"
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                sys.stderr.write(
                    f"Log lines cannot be written below {self._folder} ({error}): set "
                    "SLUICEWAY_LOG_FOLDER to a folder that can be written; the run goes on.\n"
                )


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep Prefect from printing where in the code an expected error was raised: it is a sentence.

    The run's record in PostgreSQL has the traceback.
    """
    if record.exc_info and isinstance(record.exc_info[1], SluicewayError):
        record.exc_info = None
    return True


def _hand_over(
    _: Any, __: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    shown = [
        f"{name}={value}"
        for name, value in fields.items()
        if name not in {"event", "level", "timestamp"}
    ]
    return (" ".join([str(fields["event"]), *shown]),), {"extra": {"fields": dict(fields)}}
