"""A process that logs whatever it has: what a hurried developer writes on a bad day.

    python -m tests.security.careless FILE.csv... [--unredacted]

With the platform's logging, and the settings from the environment. It logs secrets and personal
values as fields, within sentences and in tracebacks, and loads the files.
"""

import argparse
import asyncio
import logging
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog

from infra.logs import attach_log_table, configure_logging, detach_log_table
from infra.postgres.connection import Pool, connect
from infra.settings import Settings, read_settings
from schemas.errors import SluicewayError
from tasks.discover_files import discover_files
from tasks.load import Order
from tasks.load_file import load_found
from tests.security.contracts import Guarded

log = structlog.get_logger("sluiceway.careless")
library = logging.getLogger("sluiceway.library")


async def work(folder: Path, settings: Settings) -> None:
    """Log much, and load what is in the folder."""
    url = settings.database_url.get_secret_value()
    password = settings.smtp_password.get_secret_value()
    log.info("connecting", url=url, settings=settings.model_dump(), smtp_password=password)
    log.warning(f"The server refused {password}, which {url} names.")  # noqa: G004 - as the hurried do
    library.error("login as %s with %s failed", url, {"smtp_password": password})
    try:
        await connect(settings.reader_database_url.get_secret_value(), wait_seconds=1)
    except SluicewayError:
        log.exception("no connection", tried=settings.reader_database_url.get_secret_value())
    name = (folder / "name.txt").read_text()
    row = {"person_id": 1, "name": name, "email": f"{name}@example.com"}
    log.info("a row", row=row, name=name)
    library.warning("the row %r was odd", row)
    try:
        int(f"Row(id=1, name={name!r}, email='{name}@example.com')")
    except ValueError:
        log.exception("a row does not do")
    async with Pool(url) as pool:
        await _load(pool, folder)
        await _break(pool, name)


async def _load(pool: Pool, folder: Path) -> None:
    async with pool.acquire() as connection:
        run = await connection.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('careless')"
            " RETURNING id"
        )
    [file], _ = discover_files(folder, [Guarded.spec])
    report = await load_found(pool, file, Order(run, str(file.path), file.table, Guarded.spec))
    log.info("loaded", report=report)


async def _break(pool: Pool, name: str) -> None:
    """Let PostgreSQL itself quote the name: in the detail of an error."""
    async with pool.acquire() as connection:
        try:
            async with connection.transaction():
                await connection.execute(
                    "CREATE TEMPORARY TABLE held (name text PRIMARY KEY) ON COMMIT DROP"
                )
                for _ in range(2):
                    await connection.execute("INSERT INTO held VALUES ($1)", name)
        except Exception:
            log.exception("PostgreSQL refused a row")


def main() -> None:
    """Log as the platform does, or as it would without its redaction."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unredacted", action="store_true")
    given = parser.parse_args()
    if given.unredacted:
        patch("infra.logs.redact_fields", _as_they_are).start()
        patch("infra.logs.redact_record", lambda _: True).start()
        patch("infra.logs.redact", str).start()
    settings = read_settings()
    configure_logging("careless", folder=settings.log_folder, settings=settings)
    attach_log_table(settings.database_url.get_secret_value())
    asyncio.run(work(given.folder, settings))
    detach_log_table()


def _as_they_are(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the fields as text, which is all that the handlers take."""
    return {name: value if name == "timestamp" else str(value) for name, value in fields.items()}


if __name__ == "__main__":
    main()
