"""What waits to be sent, and how PostgreSQL itself is used."""

from infra.exporter.sheet import Sheet, add
from infra.postgres.connection import Connection

MOST_MAILS = 100_000


async def read_mails(sheet: Sheet, connection: Connection) -> None:
    """Add how many mails are neither sent nor given up."""
    waiting = await connection.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM metadata.mail_outbox
            WHERE sent_at IS NULL AND abandoned_at IS NULL LIMIT $1
        ) AS counted
        """,
        MOST_MAILS,
    )
    sheet.gauge(
        "sluiceway_mails_waiting",
        "Mails and other notices that are neither sent nor given up.",
        (),
        [((), waiting)],
    )


async def read_usage(sheet: Sheet, connection: Connection) -> None:
    """Add the connections of each role to any database of the server, with what it may have."""
    rows = await connection.fetch(
        """
        SELECT r.rolname AS role, coalesce(a.connections, 0) AS connections,
            coalesce(nullif(r.rolconnlimit, -1), current_setting('max_connections')::int) AS most
        FROM pg_roles AS r LEFT JOIN (
            -- Background workers are of no database, and nobody's connections.
            SELECT usesysid, count(*) AS connections FROM pg_stat_activity
            WHERE datid IS NOT NULL GROUP BY usesysid
        ) AS a ON a.usesysid = r.oid
        WHERE r.rolcanlogin AND (a.connections IS NOT NULL OR r.rolname ~ '^sluiceway_')
        ORDER BY r.rolname !~ '^sluiceway_', r.rolname
        """
    )
    sheet.gauge(
        "sluiceway_database_connections",
        "Open connections of the role to any database of the server.",
        ("role",),
        [((row["role"],), row["connections"]) for row in rows],
        combine=add,
    )
    sheet.gauge(
        "sluiceway_database_connection_limit",
        "How many connections the role may have; the server's limit where it has none of its own.",
        ("role",),
        [((row["role"],), row["most"]) for row in rows],
    )
    size = await connection.fetchval("SELECT pg_database_size(current_database())")
    sheet.gauge(
        "sluiceway_database_size_bytes",
        "Size of the platform's database on disk.",
        (),
        [((), size)],
        unit="bytes",
    )
