"""Log lines: structured in the file, readable in the Prefect UI and on the terminal.

Every line goes through the standard library's logger `sluiceway`. Prefect takes it over where
PREFECT_LOGGING_EXTRA_LOGGERS names it (prefect.yaml does); the file has one JSON object a line, and
metadata.pipeline_logs a row. With SLUICEWAY_LOG_STDOUT the file's objects go to stdout too, for
whatever collects the output of services. None of them shows a secret or personal data
(infra/redaction.py).
"""

import asyncio
import datetime as dt
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from infra.log_table import LogTable
from infra.redaction import hide_password_of, hide_secrets_of, redact, redact_fields, redact_record
from schemas.errors import SluicewayError

LOGGER = "sluiceway"
_NOT_SHOWN = frozenset({"event", "level", "timestamp", "execution_id", "pipeline_name"})
_Handler = TypeVar("_Handler", bound=logging.Handler)


def configure_logging(
    pipeline: str, *, folder: Path, level: str = "INFO", settings: BaseModel | None = None
) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines go to `<folder>/<pipeline>_YYYYMMDD.log`, by the day in UTC.

    Calling it again changes folder and level. On the terminal, Prefect prints the readable line.
    settings: what no line shows the secrets of, and whether lines go to stdout too.
    """
    if settings is not None:
        hide_secrets_of(settings)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact_fields,
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
    for old in (*_files(), *_of(logger, StandardOutput)):
        logger.removeHandler(old)
        client.removeHandler(old)
        old.close()
    file = DailyFile(folder, pipeline)
    logger.addHandler(file)
    client.addHandler(file)
    if settings is not None and getattr(settings, "log_stdout", False):
        logger.addHandler(StandardOutput())
    for each in logger.handlers:
        # Lines of the standard library's pass no processor. Prefect's handlers are there too.
        each.addFilter(redact_record)
        if isinstance(each, LogTable):
            each.pipeline = pipeline
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        prefect = logging.getLogger(name)
        for filter_ in (_without_traceback, redact_record):
            # A logger takes each only once.
            prefect.addFilter(filter_)
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(LOGGER)
    return bound


def attach_log_table(url: str) -> None:
    """Have every further line from INFO up written to metadata.pipeline_logs of this database.

    To be called after configure_logging, and as often as one likes: a process has one such table.
    Nobody waits for it but the end of a run and of the interpreter, at most two seconds.
    """
    hide_password_of(url)
    logger = logging.getLogger(LOGGER)
    for each in _tables():
        if each.url == url:
            return
        logger.removeHandler(each)
        each.close()
    table = LogTable(url, pipeline=_pipeline(), tell=_tell_file)
    table.addFilter(redact_record)
    logger.addHandler(table)


def detach_log_table() -> None:
    """Write what waits, and leave further lines to the file."""
    for each in _tables():
        logging.getLogger(LOGGER).removeHandler(each)
        each.close()


@asynccontextmanager
async def lines_of_run(**tags: Any) -> AsyncIterator[None]:
    """Have every line of a run say these; they are in the table, if there is one, at its end.

    At most two seconds are waited for that.
    """
    try:
        with tag_lines(**tags):
            yield
    finally:
        for each in _tables():
            await asyncio.to_thread(each.write_out)


@contextmanager
def tag_lines(**tags: Any) -> Iterator[None]:
    """Have every line that is logged within, also by what is called or started, say this."""
    outside = structlog.contextvars.get_contextvars()
    structlog.contextvars.bind_contextvars(**tags)
    try:
        yield
    finally:
        # Not by their tokens: a generator may be closed in another context than it began in.
        structlog.contextvars.unbind_contextvars(*tags)
        structlog.contextvars.bind_contextvars(
            **{name: value for name, value in outside.items() if name in tags}
        )


class DailyFile(logging.Handler):
    """Appends each line, as JSON, to the file of its day."""

    def __init__(self, folder: Path, pipeline: str) -> None:
        """Remember where; the folder is made with the first line."""
        super().__init__()
        self._folder = folder
        self.pipeline = pipeline
        self._has_complained = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a disk that refuses it is told on stderr, and the run goes on."""
        try:
            line = _as_json(record)
            day = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self.pipeline}_{day:%Y%m%d}.log"
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                sys.stderr.write(
                    f"Log lines cannot be written below {self._folder} ({error}): set "
                    "SLUICEWAY_LOG_FOLDER to a folder that can be written; the run goes on.\n"
                )


class StandardOutput(logging.Handler):
    """Prints each line, as JSON, to stdout."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line; where nobody reads any more, it is in the file all the same."""
        # The worker that read a run's output may have been killed before the run.
        with suppress(OSError, ValueError):
            print(_as_json(record), flush=True)  # noqa: T201 - what it is for


def _as_json(record: logging.LogRecord) -> str:
    fields = getattr(record, "fields", None) or _fields_of(record)
    return json.dumps({"logger": record.name, **fields}, default=str, ensure_ascii=False)


def _of(logger: logging.Logger, kind: type[_Handler]) -> list[_Handler]:
    return [each for each in logger.handlers if isinstance(each, kind)]


def _tables() -> list[LogTable]:
    return _of(logging.getLogger(LOGGER), LogTable)


def _files() -> list[DailyFile]:
    return _of(logging.getLogger(LOGGER), DailyFile)


def _pipeline() -> str:
    return next((each.pipeline for each in _files()), LOGGER)


def _tell_file(sentence: str) -> None:
    """Write a line to the file alone: the table's own trouble goes neither there nor to Prefect."""
    record = logging.LogRecord(f"{LOGGER}.log_table", logging.WARNING, "", 0, sentence, (), None)
    at = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    record.fields = {"event": redact(sentence), "level": "warning", "timestamp": at}
    for each in _files():
        each.handle(record)


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields = {"event": record.getMessage()}
    return {**fields, "exception": record.exc_text} if record.exc_text else fields


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
    shown = [f"{name}={value}" for name, value in fields.items() if name not in _NOT_SHOWN]
    return (" ".join([str(fields["event"]), *shown]),), {"extra": {"fields": dict(fields)}}
