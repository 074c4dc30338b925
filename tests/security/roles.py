"""What each role of PostgreSQL must not do, tried statement by statement over TLS.

Each statement runs in a transaction that is rolled back: as the role, which has to lack the right,
and as the owner, who shows that the statement is one that works.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from infra.postgres.connection import connect
from tests.security import planted_code
from tests.security.claim import Area, Claim, FoiledError
from tests.security.session import PASSWORDS, Session, undone
from tests.tls_servers import verified_address

STRANGER, STRANGER_PASSWORD = "stranger", "only for strangers"
_TAKES_OVER = {
    "becomes-the-owner": "SET ROLE postgres",
    "makes-a-role": "CREATE ROLE accomplice SUPERUSER LOGIN",
    "changes-a-password": "ALTER ROLE postgres PASSWORD 'known'",
    "reads-password-hashes": "SELECT rolpassword FROM pg_authid",
    "runs-a-program": "COPY (SELECT 1) TO PROGRAM 'cat'",
    "reads-the-servers-files": "SELECT pg_read_file('postgresql.conf')",
    "makes-a-large-object": "SELECT lo_create(0)",
    "makes-a-schema": "CREATE SCHEMA mine",
    "makes-a-table-in-public": "CREATE TABLE public.mine (x int)",
    "makes-a-table-in-metadata": "CREATE TABLE metadata.mine (x int)",
    "makes-a-function-in-warehouse": (
        "CREATE FUNCTION warehouse.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    ),
    "takes-a-table-over": "ALTER TABLE warehouse.dim_customers OWNER TO CURRENT_USER",
    "drops-a-table": "DROP TABLE warehouse.dim_guarded_people",
    "changes-a-table": "ALTER TABLE warehouse.dim_customers ADD COLUMN x int",
    "empties-a-table": "TRUNCATE warehouse.fact_sales_data",
    "deletes-history": "DELETE FROM metadata.pipeline_executions",
    "forges-a-rollup": "UPDATE metadata.rollup_executions SET executions = 0",
    "forges-a-contract": ("INSERT INTO metadata.warehouse_tables VALUES ('x', 'x', '{x}', 'x')"),
}
"""Of no role but the owner."""
_READS_CELLS = {
    "reads-personal-cells": "SELECT name FROM warehouse.dim_guarded_people",
    "reads-their-index": "SELECT _name_index FROM warehouse.dim_guarded_people",
    "reads-staged-cells": "SELECT name FROM staging.guarded_people",
    "reads-whole-rows": "SELECT p FROM warehouse.dim_guarded_people AS p",
    "reads-row-hashes": "SELECT _row_hash FROM warehouse.dim_guarded_people",
    "reads-sealed-rejects": "SELECT raw_sealed FROM metadata.quarantine",
    "reads-dead-letters": "SELECT message_value FROM metadata.dead_letters",
    "reads-unsent-messages": "SELECT message_value FROM metadata.unsent_messages",
}
_WRITES = {
    "loads-rows": "INSERT INTO warehouse.dim_date (date_key, year, quarter, month, month_name, day,"
    " day_of_year, iso_year, iso_week, iso_weekday, weekday_name, is_weekend)"
    " VALUES ('1999-01-01', 1999, 1, 1, 'January', 1, 1, 1999, 1, 1, 'Monday', false)",
    "changes-rows": "UPDATE warehouse.dim_customers SET city = 'here'",
    "ends-a-run": "UPDATE metadata.pipeline_executions SET status = 'SUCCESS'",
    "deletes-lines": "DELETE FROM metadata.pipeline_logs",
    "prunes-history": "SELECT metadata.prune('pipeline_logs', '2020-01-01', 0, 1)",
    "opens-a-first-load": "SELECT warehouse.open_first_load('fact_sales_data')",
    "makes-a-table-in-staging": "CREATE TABLE staging.mine (x int)",
    "records-an-erasure": "INSERT INTO metadata.erasures"
    " (column_name, subject_index, requested_by, counts)"
    " VALUES ('email', decode(repeat('00', 16), 'hex'), 'nobody', '{}')",
}
_ERASES = {
    "deletes-people": "DELETE FROM warehouse.dim_guarded_people",
    "deletes-rejects": "DELETE FROM metadata.quarantine",
    "deletes-dead-letters": "DELETE FROM metadata.dead_letters",
}
_SETS_MAINTENANCE = {
    "sets-maintenance": (
        "SELECT metadata.set_maintenance(NULL, NULL, now(), now() + INTERVAL '1 hour', 'x', 'x')"
    ),
}
_READS_BUSINESS = {
    "reads-facts": "SELECT * FROM warehouse.fact_sales_data",
    "reads-lines": "SELECT event FROM metadata.pipeline_logs",
    "reads-errors": "SELECT error_message FROM metadata.pipeline_executions",
}
FORBIDDEN: Mapping[str, Mapping[str, str]] = {
    "sluiceway_loader": {
        **_TAKES_OVER,
        **_ERASES,
        **_SETS_MAINTENANCE,
        "forges-an-erasure": _WRITES["records-an-erasure"],
    },
    "sluiceway_reader": {**_TAKES_OVER, **_READS_CELLS, **_WRITES, **_ERASES},
    "sluiceway_monitor": {
        **_TAKES_OVER,
        **_READS_CELLS,
        **_WRITES,
        **_ERASES,
        **_SETS_MAINTENANCE,
        **_READS_BUSINESS,
    },
    "sluiceway_eraser": {
        **_TAKES_OVER,
        **_SETS_MAINTENANCE,
        **{
            name: sql
            for name, sql in _WRITES.items()
            # The record is the eraser's to write; what it changes is the rows of people.
            if name not in {"records-an-erasure", "changes-rows"}
        },
        "changes-other-rows": "UPDATE warehouse.dim_products SET price = 0",
        "changes-a-key": "UPDATE warehouse.dim_customers SET customer_id = 1",
        "reads-personal-cells": _READS_CELLS["reads-personal-cells"],
        "reads-facts": _READS_BUSINESS["reads-facts"],
        "changes-an-erasure": "UPDATE metadata.erasures SET requested_by = 'nobody'",
        "hides-an-erasure": "DELETE FROM metadata.erasures",
        "reads-lines": _READS_BUSINESS["reads-lines"],
    },
    STRANGER: {
        "reads-runs": "SELECT * FROM metadata.pipeline_executions",
        "reads-people": "SELECT * FROM warehouse.dim_guarded_people",
        "reads-staging": "SELECT * FROM staging.customers",
        "folds-counts": "SELECT metadata.fold_counts()",
    },
}
"""By role: what it must not do. A stranger may log in, and was granted nothing."""


@dataclass(frozen=True, slots=True)
class Act:
    """A statement, and over whose connection it is run."""

    connection: asyncpg.Connection
    sql: str


Stage = Mapping[str, asyncpg.Connection]
"""Connections by role; the owner's by an empty name."""


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Log in as each role, and as one that was granted nothing."""
    server = await session.postgres()
    server.ensure_role(STRANGER, STRANGER_PASSWORD)
    address = verified_address(
        server, session.authority.certificate_file, user=STRANGER, password=STRANGER_PASSWORD
    )
    async with AsyncExitStack() as stack:

        async def log_in(url: str) -> asyncpg.Connection:
            connection = await connect(url)
            stack.push_async_callback(connection.close)
            return connection

        connections = {role: await log_in(session.url(role)) for role in ("", *PASSWORDS)}
        yield {**connections, STRANGER: await log_in(address)}


async def run_it(act: Act) -> str:
    """Return what PostgreSQL answers."""
    async with undone(act.connection):
        answer = await act.connection.execute(act.sql)
    return f"done: {answer}"


async def list_loose_functions(act: Act) -> str:
    """Return the functions with an owner's rights that look things up where a caller says."""
    async with undone(act.connection):
        await act.connection.execute(act.sql)
        names = await act.connection.fetch(
            """
            SELECT p.oid::regprocedure::text AS name FROM pg_proc AS p
            WHERE prosecdef AND NOT EXISTS (
                SELECT FROM unnest(proconfig) AS c
                WHERE c LIKE 'search_path=%' AND c LIKE '%pg_temp'
            )
            """
        )
        every = await act.connection.fetchval("SELECT count(*) FROM pg_proc WHERE prosecdef")
    if not names:
        raise FoiledError(f"each of {every} such functions keeps to its own search_path")
    return f"{names[0]['name']} would call what a caller puts in its way"


async def call_as_stranger(act: Act) -> str:
    """Return the functions with the owner's rights that whoever may log in can call."""
    async with undone(act.connection):
        await act.connection.execute(act.sql)
        names = await act.connection.fetch(
            "SELECT oid::regprocedure::text AS name FROM pg_proc"
            " WHERE prosecdef AND has_function_privilege($1, oid, 'EXECUTE')",
            STRANGER,
        )
    if not names:
        raise FoiledError("none of them may be called without having been granted")
    return f"{names[0]['name']} may be called by everybody"


def _claims() -> Iterator[Claim]:
    for role, acts in FORBIDDEN.items():
        for name, sql in acts.items():
            short = role.removeprefix("sluiceway_")
            yield Claim(
                f"{short}-{name}",
                f"as {role}: {sql}",
                run_it,
                # As defaults: each claim keeps its own.
                lambda stage, role=role, sql=sql: Act(stage[role], sql),
                lambda stage, sql=sql: Act(stage[""], sql),
                asyncpg.InsufficientPrivilegeError,
            )
    for name, tried, attack in (
        (
            "functions-keep-their-search-path",
            "put a function of one's own in the way of one with the owner's rights",
            list_loose_functions,
        ),
        (
            "functions-are-not-everybodys",
            "call a function with the owner's rights as who was granted nothing",
            call_as_stranger,
        ),
    ):
        yield Claim(
            name,
            tried,
            attack,
            lambda stage: Act(stage[""], "SELECT 1"),
            lambda stage: Act(
                stage[""],
                "CREATE FUNCTION metadata.loose() RETURNS int LANGUAGE sql SECURITY DEFINER"
                " AS 'SELECT 1'",
            ),
        )


AREA = Area("roles", "Roles of PostgreSQL", open_stage, (*_claims(), *planted_code.CLAIMS))
