"""How what a demo's processes say to each other was protected: the servers are asked."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from deployments.environments import read_broker_settings
from infra.postgres.connection import connect
from infra.postgres.identifiers import quote
from infra.postgres.layout import Target
from schemas.dataset import Dataset
from schemas.datasets import DATASETS
from schemas.errors import TerminalError

LOOK_SECONDS = 0.25
HANDSHAKE_SECONDS = 10.0

# Workers of a parallel query are no connection of anybody's.
_CONNECTIONS = """
    SELECT a.pid, a.backend_start, s.ssl, s.version, s.cipher
    FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)
    WHERE a.usename = current_user AND a.backend_type = 'client backend'
"""


@dataclass(frozen=True, slots=True)
class Protection:
    """What TLS agreed upon, such as TLSv1.3 and TLS_AES_256_GCM_SHA384."""

    version: str
    cipher: str

    def __str__(self) -> str:
        """Name both."""
        return f"{self.version}, {self.cipher}"


@dataclass(frozen=True, slots=True)
class Transport:
    """What was seen of a demo's ways; None as a protection: in clear."""

    connections: Counter[Protection | None]
    """The flows' connections to PostgreSQL, while the demo ran."""
    kafka: Protection | None
    kafka_login: str
    """By which mechanism the flows log in to Kafka; empty: they do not."""
    prefect: Protection | None

    @property
    def found_in_clear(self) -> tuple[str, ...]:
        """What was spoken to without TLS."""
        return tuple(
            name
            for name, in_clear in (
                ("PostgreSQL", bool(self.connections[None]) or not self.connections),
                ("Kafka", self.kafka is None),
                ("Prefect", self.prefect is None),
            )
            if in_clear
        )


@asynccontextmanager
async def watch_connections(database_url: str) -> AsyncIterator[dict[object, Protection | None]]:
    """Yield what fills, within the block, with each connection that the address's role has.

    A connection shorter than LOOK_SECONDS may be missed.
    """
    seen: dict[object, Protection | None] = {}
    connection = await connect(database_url)
    looking = asyncio.create_task(_look(connection, seen))
    try:
        yield seen
        if looking.done():
            looking.result()
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        connection.terminate()


async def _look(connection: asyncpg.Connection, seen: dict[object, Protection | None]) -> None:
    while True:
        for row in await connection.fetch(_CONNECTIONS):
            found = Protection(row["version"], row["cipher"]) if row["ssl"] else None
            seen[row["pid"], row["backend_start"]] = found
        await asyncio.sleep(LOOK_SECONDS)


async def read_transport(
    seen: Mapping[object, Protection | None], environment: Mapping[str, str]
) -> Transport:
    """Return what was seen of PostgreSQL's connections, and what Kafka and Prefect agree upon.

    environment: of the stack. Raises TerminalError where a server that is to speak TLS does not, or
    shows a certificate that is not to be trusted.
    """
    settings = read_broker_settings(environment)
    kafka = None
    if settings.kafka_security != "plaintext":
        first = urlsplit(f"//{settings.kafka_bootstrap_servers.split(',')[0]}")
        kafka = await _shake_hands("Kafka", first.hostname, first.port, settings.kafka_ca_file)
    api = urlsplit(environment["PREFECT_API_URL"])
    prefect = None
    if api.scheme == "https":
        ca_file = Path(environment["PREFECT_API_SSL_CERT_FILE"])
        prefect = await _shake_hands("Prefect", api.hostname, api.port, ca_file)
    return Transport(
        connections=Counter(seen.values()),
        kafka=kafka,
        kafka_login=settings.kafka_scram if settings.kafka_security == "sasl_ssl" else "",
        prefect=prefect,
    )


async def _shake_hands(
    who: str, host: str | None, port: int | None, ca_file: Path | None
) -> Protection:
    """Return what a server agrees upon whose certificate and host name are right."""
    context = ssl.create_default_context(cafile=ca_file)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError as error:
        raise TerminalError(
            f"{who} at {host}:{port} does not speak TLS as it should ({error}): see its log."
        ) from error
    try:
        agreed = writer.get_extra_info("ssl_object")
        return Protection(agreed.version(), agreed.cipher()[0])
    finally:
        writer.transport.abort()


def describe_transport(transport: Transport) -> str:
    """Return the line that says how the demo's processes spoke to each other."""
    total = transport.connections.total()
    in_clear = transport.found_in_clear
    if len(in_clear) == len(("PostgreSQL", "Kafka", "Prefect")):
        return (
            "plain: everything on loopback, nothing encrypted on the way "
            f"({transport.connections[None]:,} of {total:,} connections to PostgreSQL without TLS, "
            "Kafka by PLAINTEXT, Prefect by HTTP)."
        )
    ciphers = [str(each) for each in transport.connections if each is not None]
    encrypted = total - transport.connections[None]
    login = f" with {transport.kafka_login}" if transport.kafka_login else ""
    parts = [
        f"{encrypted:,} of {total:,} connections to PostgreSQL ({'; '.join(sorted(ciphers))})",
        f"Kafka by SASL_SSL{login} ({transport.kafka or 'in clear'})",
        f"Prefect by HTTPS ({transport.prefect or 'in clear'})",
    ]
    return f"TLS: {', '.join(parts)}; certificates and host names checked."


def find_transport_shortfalls(transport: Transport, *, is_secured: bool) -> list[str]:
    """Return a sentence for each server that a stack with TLS was spoken to in clear."""
    if not is_secured:
        return []
    return [f"{name} was spoken to in clear" for name in transport.found_in_clear]


@dataclass(frozen=True, slots=True)
class PersonalCells:
    """How many cells of personal columns the warehouse holds."""

    encrypted: int
    in_clear: int


async def count_personal_cells(
    database_url: str, datasets: Iterable[type[Dataset]] = DATASETS
) -> PersonalCells:
    """Return how many there are; a cell is encrypted whose first byte is that of the format."""
    connection = await connect(database_url)
    encrypted = total = 0
    try:
        for spec in (each.spec for each in datasets):
            names = [quote(each.name) for each in spec.columns if each.pii]
            for name in names:
                [row] = await connection.fetch(
                    f"SELECT count({name}) AS total, count(*) FILTER"  # noqa: S608 - quoted
                    f" (WHERE starts_with({name}::text, '\\x01')) AS encrypted"
                    f" FROM {Target(spec).table}"
                )
                encrypted += row["encrypted"]
                total += row["total"]
    finally:
        await connection.close()
    return PersonalCells(encrypted, total - encrypted)


def describe_cells(cells: PersonalCells) -> str:
    """Return the line that says whether a reader of the files could read a person."""
    if not cells.in_clear:
        return f"Personal cells in the warehouse: {cells.encrypted:,}, each encrypted."
    return (
        f"Personal cells in the warehouse: {cells.encrypted:,} encrypted, {cells.in_clear:,} in "
        "clear."
    )
