"""The platform's roles: who may log in, how many at once, and what each session starts with.

What a role may touch is granted where the tables are made: by the migrations, and by
infra/postgres/apply.py for the tables of datasets.
"""

from collections.abc import Mapping

import asyncpg

from infra.postgres.rights import ERASER, LOADER, MONITOR, READER
from infra.postgres.scram import make_verifier

CONNECTION_LIMIT = 60
"""Connections of all flows together; docs/concurrency.md says how the figure came about."""
MONITOR_LIMIT = 5
"""An exporter takes one for a scrape, and another to end one that is stuck."""
ERASER_LIMIT = 3
"""A person at a terminal, a flow, and one to look what holds them up."""

READER_LIMIT = 60
"""Several dashboards, with a pool of connections each."""

_LIMITS = {
    LOADER: CONNECTION_LIMIT,
    READER: READER_LIMIT,
    MONITOR: MONITOR_LIMIT,
    ERASER: ERASER_LIMIT,
}
ROLES = (LOADER, READER, MONITOR, ERASER)

SESSION_SETTINGS: dict[str, dict[str, str]] = {
    READER: {
        "default_transaction_read_only": "on",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "60s",
    },
}
"""What a role's sessions start with, whatever program opens them; the dashboard asks for less."""


async def create_roles(
    connection: asyncpg.Connection, passwords: Mapping[str, str | None] | None = None
) -> None:
    """Leave all roles there, with their limits and settings.

    passwords: by role; a password of None, or none given, stays as it is.
    """
    # Bootstraps of two databases on one server would otherwise race for the same roles.
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sluiceway roles'))")
        for role in ROLES:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} LOGIN")
            password = (passwords or {}).get(role)
            if password is not None:
                # Not the password itself: the server may log the statement.
                literal = await connection.fetchval(
                    "SELECT quote_literal($1::text)", make_verifier(password)
                )
                await connection.execute(f"ALTER ROLE {role} PASSWORD {literal}")
        for role, limit in _LIMITS.items():
            await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT {limit}")
        for role, settings in SESSION_SETTINGS.items():
            for name, value in settings.items():
                await connection.execute(f"ALTER ROLE {role} SET {name} = '{value}'")
        # Only a member may hand a table over to the role.
        await connection.execute(f"GRANT {LOADER} TO CURRENT_USER")
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {LOADER}")
        # Whoever may make tables, if temporary ones, may fill the disk.
        await connection.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        if await connection.fetchval("SELECT usesuper FROM pg_user WHERE usename = current_user"):
            # Whoever may make large objects may fill the disk, in a read-only transaction too.
            await connection.execute(
                "REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid),"
                " lo_from_bytea(oid, bytea) FROM PUBLIC"
            )
        others = ", ".join(role for role in ROLES if role != LOADER)
        await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {others}")
