"""Seats: a numbered place for each consumer that is wanted, taken by one run at a time.

A seat is an advisory lock on a connection that does nothing else. PostgreSQL gives it back when
the process is gone, however it went and on whatever host, so what is seen here is who lives: no
state of Prefect, and no word of a process that may be dead. The connection's name says which flow
run sits there.
"""

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import anyio
import asyncpg
import structlog

from infra.postgres.connection import TRANSIENT, Connection, connect
from schemas.errors import SluicewayError, TransientError
from tasks.leaving import leave_when

log = structlog.get_logger("sluiceway.seats")

_NAME, _NO_RUN = "sluiceway seat", "-"
_CHECK_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_TOP_BIT, _RANGE = 1 << 31, 1 << 32


class SeatTakenError(SluicewayError):
    """Another run has the seat: this one is one too many, and has nothing to do."""


@dataclass(frozen=True, slots=True)
class Sitter:
    """Who has a seat."""

    number: int
    backend: int
    """PostgreSQL's process for the connection."""
    flow_run_id: UUID | None
    """None for a run without Prefect."""
    token: str
    """Tells one process from another, should both have the same run."""


@asynccontextmanager
async def hold_seat(
    database_url: str, group: str, number: int, flow_run_id: UUID | None = None
) -> AsyncIterator[None]:
    """Let the block be the only run in that seat of the group.

    Raises SeatTakenError at once where another run sits there. When PostgreSQL was away, the seat
    is taken again; where another run was quicker, the block is cancelled and the error raised.
    """
    seat = _Seat(database_url, group, number, flow_run_id)
    await seat.take()
    try:
        async with leave_when(seat.keep()):
            yield
    finally:
        with anyio.CancelScope(shield=True):
            await seat.leave()


async def find_sitters(connection: Connection, group: str) -> dict[int, Sitter]:
    """Return who has which seat of the group; the connection's role must be the sitters'."""
    rows = await connection.fetch(
        """
        SELECT objid::int AS number, l.pid AS backend, application_name AS name
        FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = $1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        _lock_class(group) % _RANGE,
    )
    return {row["number"]: _read(row["number"], row["backend"], row["name"]) for row in rows}


async def try_lock(connection: Connection, group: str, number: int) -> bool:
    """Return whether the connection has that seat's lock now."""
    taken: bool = await connection.fetchval(
        "SELECT pg_try_advisory_lock($1, $2)", _lock_class(group), number
    )
    return taken


class _Seat:
    """One seat, and the connection that holds it."""

    def __init__(self, url: str, group: str, number: int, flow_run_id: UUID | None) -> None:
        self._url = url
        self._group = group
        self._number = number
        self._token = secrets.token_hex(4)
        self._name = _write(flow_run_id, self._token)
        self._connection: asyncpg.Connection | None = None

    @property
    def taken(self) -> SeatTakenError:
        return SeatTakenError(
            f"Consumer {self._number} of {self._group} is alive in another run: this one is not "
            "needed."
        )

    async def take(self, wait_seconds: float = 60.0) -> None:
        """Have the seat; raises SeatTakenError where another run has it."""
        connection = await connect(self._url, wait_seconds=wait_seconds)
        try:
            await connection.execute("SELECT set_config('application_name', $1, false)", self._name)
            if not await try_lock(connection, self._group, self._number):
                await self._take_from_own_ghost(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _take_from_own_ghost(self, connection: asyncpg.Connection) -> None:
        """Have the seat that our own lost connection still holds, as after a cut of the network."""
        sitter = (await find_sitters(connection, self._group)).get(self._number)
        if sitter is not None:
            if sitter.token != self._token:
                raise self.taken
            await connection.execute("SELECT pg_terminate_backend($1, 5000)", sitter.backend)
        if not await try_lock(connection, self._group, self._number):
            raise self.taken

    async def keep(self) -> SeatTakenError:
        """Have the seat for as long as PostgreSQL lets us; returns once another run has it."""
        while True:
            await self._wait_for_loss()
            log.warning("the seat is lost with PostgreSQL's connection", consumer=self._number)
            while self._connection is None:
                try:
                    await self.take(wait_seconds=_RETRY_SECONDS)
                except SeatTakenError as taken:
                    return taken
                except (TransientError, *TRANSIENT):
                    await asyncio.sleep(_RETRY_SECONDS)
            log.info("the seat is taken again", consumer=self._number)

    async def _wait_for_loss(self) -> None:
        """Return when the connection is of no use any more, and forget it."""
        connection = self._connection
        if connection is None:
            return
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not (lost.is_set() or connection.is_closed()):
            with suppress(TimeoutError):
                await asyncio.wait_for(lost.wait(), _CHECK_SECONDS)
                break
            # A host that vanished says no farewell: it has to be asked.
            try:
                await connection.execute("SELECT 1", timeout=_CHECK_SECONDS)
            except TRANSIENT:
                break
        connection.terminate()
        self._connection = None

    async def leave(self) -> None:
        """Give the seat back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*TRANSIENT):
                await connection.close(timeout=2)


def _lock_class(group: str) -> int:
    number = zlib.crc32(f"{_NAME} {group}".encode())
    return number - _RANGE if number >= _TOP_BIT else number


def _write(flow_run_id: UUID | None, token: str) -> str:
    return f"{_NAME} {flow_run_id or _NO_RUN} {token}"


def _read(number: int, backend: int, name: str) -> Sitter:
    run, _, token = name.removeprefix(_NAME).strip().partition(" ")
    try:
        return Sitter(number, backend, UUID(run), token)
    except ValueError:
        return Sitter(number, backend, None, token)
