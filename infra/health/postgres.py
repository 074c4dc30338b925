"""Whether PostgreSQL takes connections and writes, has room for both, and its standbys follow."""

import shutil
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil

from infra.health.finding import Finding, bad, first_line, good
from infra.postgres.connection import LOOPBACK, TRANSIENT, connect
from schemas.errors import SluicewayError

CONNECT_SECONDS = 2.0
"""How long a full server or role is asked again."""
FULL_SHARE = 0.95
"""Of the server's connections; with more in use it is BAD."""
STANDBY_SECONDS = 300.0
"""BAD where a standby is further behind."""
_DEFAULT_PORT = 5432

_LOOK = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int AS most,
    -- NULL where this role is not told (pg_read_all_stats).
    (SELECT count(*) FROM pg_stat_replication) AS standbys,
    (SELECT count(*) FROM pg_stat_replication WHERE state IS NULL) AS hidden,
    (SELECT extract(epoch FROM max(replay_lag))::float8 FROM pg_stat_replication) AS standby_lag,
    (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots
     WHERE wal_status IN ('unreserved', 'lost')) AS lost_slots
"""


async def check_postgres(url: str, *, standby_seconds: float = STANDBY_SECONDS) -> Finding:
    """Return whether it writes, over a connection of its own."""
    begun = monotonic()
    try:
        connection = await connect(url, wait_seconds=CONNECT_SECONDS)
        try:
            finding = await _look(connection, begun, standby_seconds)
        except BaseException:
            # A farewell would wait for a server that is frozen.
            connection.terminate()
            raise
        await connection.close(timeout=1)
    except SluicewayError as error:
        return bad(str(error))
    except (asyncpg.PostgresError, *TRANSIENT) as error:
        return bad(f"PostgreSQL refuses: {first_line(error)}.")
    room = _describe_room(url)
    return Finding(finding.status, f"{finding.detail}{room}.")


async def _look(connection: asyncpg.Connection, begun: float, standby_seconds: float) -> Finding:
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        return bad("It is a standby, or still recovers: nothing can be written")
    async with connection.transaction():
        # A table that goes with its transaction: catalogue, a file, the log and a real commit.
        await connection.execute("CREATE TEMPORARY TABLE health (at timestamptz) ON COMMIT DROP")
        await connection.execute("INSERT INTO health VALUES (clock_timestamp())")
    written_ms = 1000 * (monotonic() - begun)
    found = await connection.fetchrow(_LOOK)
    if found is None:
        raise asyncpg.InternalServerError("an aggregate without a row")
    said = (
        f"Connected and written in {written_ms:.0f} ms; "
        f"{found['used']} of {found['most']} connections{_describe_standbys(found)}"
    )
    if found["used"] > FULL_SHARE * found["most"]:
        return bad(f"{found['used']} of {found['most']} connections are in use")
    if found["lost_slots"]:
        return bad(f"The replication slot {found['lost_slots']} lost what its standby needs")
    if (found["standby_lag"] or 0.0) > standby_seconds:
        return bad(f"A standby is {found['standby_lag']:.0f} s behind")
    return good(said)


def _describe_standbys(found: Any) -> str:
    if not found["standbys"]:
        return ""
    named = (
        f"{found['standbys']} standby"
        if found["standbys"] == 1
        else (f"{found['standbys']} standbys")
    )
    if found["hidden"]:
        return f", {named}, how far behind this role is not told"
    return f", {named}, at most {found['standby_lag'] or 0:.1f} s behind"


def _describe_room(url: str) -> str:
    folder = find_data_folder(url)
    if folder is None:
        return ""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return ""
    return f"; {usage.free / 1e9:,.1f} GB free for its data"


def find_data_folder(url: str) -> Path | None:
    """Return where the server has its data, as far as this process can see; None elsewhere.

    It can where the server is on this machine and either is ours to look at, or shows the folder
    on its command line and is the only PostgreSQL there.
    """
    parts = urlsplit(url)
    if (parts.hostname or "") not in LOOPBACK:
        return None
    port = parts.port or _DEFAULT_PORT
    shown: set[Path] = set()
    for process in psutil.process_iter():
        try:
            if not process.name().startswith("postgres") or process.status() == "zombie":
                continue
            command = process.cmdline()
            if "-D" in command[:-1]:
                shown.add(Path(command[command.index("-D") + 1]))
            else:
                # A backend, whose title is all that it shows.
                continue
            if any(
                each.laddr.port == port
                for each in process.net_connections(kind="tcp")
                if each.status == psutil.CONN_LISTEN
            ):
                return Path(process.cwd())
        except (psutil.Error, OSError):
            continue
    return shown.pop() if len(shown) == 1 else None
