"""What the areas of one check share: a folder, an authority, and a PostgreSQL behind TLS."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres
from infra.postgres.connection import connect
from infra.tls.authority import Authority
from schemas.datasets import DATASETS
from tests.conftest import (
    DEBIAN_BIN,
    ERASER_PASSWORD,
    LOADER_PASSWORD,
    MONITOR_PASSWORD,
    READER_PASSWORD,
)
from tests.security.claim import MissingError
from tests.security.contracts import Guarded, Unguarded
from tests.tls_servers import HOST_RULES, postgres_over_tls, verified_address

PLATFORM = "platform"
TRUSTING, HASHED = "trusting", "hashed"
"""Databases for the attacks without protection: anybody may log in, and by MD5."""
_RULES = f"host {TRUSTING} all 127.0.0.1/32 trust\nhost {HASHED} all 127.0.0.1/32 md5\n{HOST_RULES}"
_SETTINGS = {
    # A marker in a compressed block would not be found.
    "wal_compression": "off",
    "log_min_error_statement": "error",
}
PASSWORDS = {
    "sluiceway_loader": LOADER_PASSWORD,
    "sluiceway_reader": READER_PASSWORD,
    "sluiceway_monitor": MONITOR_PASSWORD,
    "sluiceway_eraser": ERASER_PASSWORD,
}
DATASETS_HERE = (*DATASETS, Guarded, Unguarded)


class Session:
    """One run of the check; what was started is stopped at its end."""

    def __init__(self, folder: Path) -> None:
        """folder: empty, of this run alone."""
        self.folder = folder
        self.facts: dict[str, str] = {}
        """What was found out about the servers, for the report."""
        self.authority = Authority(folder / "tls")
        # Not for `localhost`, which is the same machine by another name.
        for name in ("postgres", "kafka"):
            self.authority.issue(name, ["127.0.0.1"])
        self.other_authority = Authority(folder / "other-tls")
        self._stack = AsyncExitStack()
        self._postgres: Postgres | None = None

    async def __aenter__(self) -> Self:
        """Start nothing yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what was started."""
        await self._stack.aclose()

    async def postgres(self) -> Postgres:
        """Return the server, with the platform in its database; raises MissingError."""
        if self._postgres is None:
            if not (DEBIAN_BIN / "postgres").exists():
                raise MissingError("PostgreSQL 15 is not installed: run `make system-packages`")
            self._postgres = self._stack.enter_context(
                postgres_over_tls(
                    self.folder / "postgres" / "data",
                    self.authority,
                    databases=(PLATFORM, TRUSTING, HASHED),
                    rules=_RULES,
                    settings=_SETTINGS,
                )
            )
            await bootstrap(
                self.url(),
                **{
                    f"{role.removeprefix('sluiceway_')}_password": PASSWORDS[role]
                    for role in PASSWORDS
                },
                datasets=DATASETS_HERE,
            )
            await self._note_postgres()
        return self._postgres

    def url(self, role: str = "", *, database: str = PLATFORM) -> str:
        """Return the address that checks the certificate; without a role the owner's."""
        if self._postgres is None:
            raise RuntimeError("PostgreSQL was not started: await postgres() before.")
        login = {"user": role, "password": PASSWORDS[role]} if role else {}
        return verified_address(
            self._postgres, self.authority.certificate_file, database=database, **login
        )

    async def _note_postgres(self) -> None:
        connection = await connect(self.url())
        try:
            row = await connection.fetchrow(
                "SELECT current_setting('server_version') AS server, version, cipher, bits"
                " FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
        finally:
            await connection.close()
        self.facts["PostgreSQL"] = (
            f"{row['server']}; {row['version']}, {row['cipher']}, {row['bits']} bits"
        )


@asynccontextmanager
async def undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Leave nothing of what is done within."""
    # A role's sessions may begin read-only: whoever has its password just asks for more.
    await connection.execute("BEGIN READ WRITE")
    try:
        yield
    finally:
        await connection.execute("ROLLBACK")
