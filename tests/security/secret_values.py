"""Secrets and personal values in what processes say: log files, terminal, log table, errors."""

import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from unittest.mock import patch

from pydantic import BaseModel, PostgresDsn, ValidationError

from infra.postgres.connection import connect
from infra.settings import Settings, read_settings
from schemas.errors import SettingError
from tests.browser.dashboards import CHECKOUT
from tests.security.claim import Area, Claim, FoiledError
from tests.security.contracts import Guarded
from tests.security.session import Session

_SECRET_FIELDS = ("smtp_password", "kafka_password", "dashboard_secret", "backup_key")


@dataclass(frozen=True, slots=True)
class Said:
    """All that a careless process said, by where it said it."""

    places: dict[str, str]


@dataclass(frozen=True, slots=True)
class Stage:
    """The same process twice, and the markers that it was given."""

    password: str
    name: str
    redacted: Said
    unredacted: Said


@dataclass(frozen=True, slots=True)
class Search:
    """A marker, and where it is looked for."""

    said: Said
    marker: str


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Let a careless process run with the redaction, and without."""
    await session.postgres()
    password, name = (f"marker-{secrets.token_hex(12)}" for _ in range(2))
    said = [
        await _run(session, password, name, is_redacted=is_redacted)
        for is_redacted in (True, False)
    ]
    yield Stage(password, name, *said)


async def _run(session: Session, password: str, name: str, *, is_redacted: bool) -> Said:
    folder = session.folder / f"careless-{is_redacted}"
    raw, logs = folder / "raw", folder / "logs"
    raw.mkdir(parents=True)
    (raw / "name.txt").write_text(name)
    table = Guarded.spec.table
    # Names differ by run: a row that is there already would not be loaded anew.
    (raw / f"{table}.csv").write_text(
        f"person_id,name,note\n{7 + is_redacted},{name},x\nx,{name},x\n9,{name * 3},x\n"
    )
    wrong = session.url("sluiceway_reader").replace("only%20for%20tests%20too", password)
    if password not in wrong:
        raise RuntimeError("the wrong password is not in the address")
    given = {
        "DATABASE_URL": session.url("sluiceway_loader"),
        "READER_DATABASE_URL": wrong,
        "LOG_FOLDER": str(logs),
        "LOG_STDOUT": "true",
        "CELL_KEYS": read_settings().cell_keys.get_secret_value(),
        "INDEX_KEYS": read_settings().index_keys.get_secret_value(),
        **{each.upper(): password for each in _SECRET_FIELDS},
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.security.careless", str(raw)),
            *([] if is_redacted else ["--unredacted"]),
        ],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            **{f"SLUICEWAY_{key}": value for key, value in given.items()},
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    files = "".join(file.read_text() for file in logs.glob("*.log"))
    lines = await _read_table(session)
    for place, text in {"terminal": done.stdout, "log file": files, "log table": lines}.items():
        if "PostgreSQL refused a row" not in text:
            raise RuntimeError(f"the process has not come to its end in the {place}: {done.stderr}")
    return Said(
        {"the terminal": done.stdout + done.stderr, "the log file": files, "the log table": lines}
    )


async def _read_table(session: Session) -> str:
    """Return what the process wrote into the log table, which is empty afterwards."""
    connection = await connect(session.url())
    try:
        rows = await connection.fetch(
            "DELETE FROM metadata.pipeline_logs AS l WHERE pipeline_name = 'careless'"
            " RETURNING l::text AS line"
        )
    finally:
        await connection.close()
    return "\n".join(row["line"] for row in rows)


async def search(wanted: Search) -> str:
    """Return where the marker stands; raises FoiledError where nowhere."""
    found = {
        place: text.count(wanted.marker)
        for place, text in wanted.said.places.items()
        if wanted.marker in text
    }
    if found:
        return ", ".join(f"{count} times in {place}" for place, count in found.items())
    read = sum(map(len, wanted.said.places.values()))
    raise FoiledError(f"{read} characters on terminal, in log file and in log table are without it")


async def show_settings(kind: type[BaseModel]) -> str:
    """Return what a printed object of settings tells."""
    marker = f"marker-{secrets.token_hex(12)}"
    made = kind(**dict.fromkeys(_SECRET_FIELDS, marker))
    for name, text in {
        "repr": repr(made),
        "str": str(made),
        "an f-string": f"{made}",
        "its fields": str(made.model_dump()),
        "JSON": made.model_dump_json(),
    }.items():
        if marker in text:
            return f"{name} shows it"
    raise FoiledError("repr, str, fields and JSON are without it")


async def explain_wrong_address(read: Callable[[str], object]) -> str:
    """Return what the error about an address that is none tells of it."""
    # Short: pydantic leaves out the middle of what is long.
    marker = f"pw-{secrets.token_hex(6)}"
    try:
        read(f"postgresql://u:{marker}@db:port/x")
    except (SettingError, ValidationError) as error:
        if marker in str(error) or marker in repr(error):
            return "the sentence shows the password"
        raise FoiledError(str(error)) from error
    raise RuntimeError("an address that is none was taken")


def _read_as_platform(address: str) -> Settings:
    read_settings.cache_clear()
    try:
        with patch.dict(os.environ, {"SLUICEWAY_DATABASE_URL": address}):
            return read_settings()
    finally:
        read_settings.cache_clear()


class BareSettings(BaseModel):
    """The same settings as plain text."""

    smtp_password: str
    kafka_password: str
    dashboard_secret: str
    backup_key: str


class BareAddress(BaseModel):
    """An address, and errors that show what was given."""

    database_url: PostgresDsn


CLAIMS = (
    Claim(
        "passwords-in-logs",
        "search what a careless process logs for a password",
        search,
        lambda stage: Search(stage.redacted, stage.password),
        lambda stage: Search(stage.unredacted, stage.password),
        saying="are without it",
    ),
    Claim(
        "names-in-logs",
        "search what a careless process logs for a person's name",
        search,
        lambda stage: Search(stage.redacted, stage.name),
        lambda stage: Search(stage.unredacted, stage.name),
        saying="are without it",
    ),
    Claim(
        "printed-settings",
        "print the settings",
        show_settings,
        lambda _: Settings,
        lambda _: BareSettings,
        saying="are without it",
    ),
    Claim(
        "wrong-address",
        "read what is said about a database's address that is none",
        explain_wrong_address,
        lambda _: _read_as_platform,
        lambda _: lambda address: BareAddress(database_url=address),
        saying="SLUICEWAY_DATABASE_URL",
    ),
)
AREA = Area("secret_values", "Secrets and personal values in what is said", open_stage, CLAIMS)
