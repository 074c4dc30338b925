"""A connection that loads micro-batches: its settings, its landing tables, one batch at a time."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
import polars as pl

from infra.cell_encryption import KeyRing
from infra.cell_keys import key_ring_for
from infra.postgres.connection import Connection, Pool
from infra.postgres.copy import CopyEncoder, affected
from infra.postgres.layout import (
    LANDED_COLUMNS,
    LINEAGE_COLUMNS,
    STAGING,
    stored_columns,
)
from infra.postgres.merge_sql import CHANGED, CONFIRMED, NEW, SUPERSEDED, UNCHANGED
from infra.postgres.session_sql import LOSES, SessionSql, day_table, session_sql
from schemas.dataset import Role, Spec
from schemas.errors import TerminalError
from tasks.clean import EXTRA
from tasks.key_proof import prove_keys
from tasks.ledger import Ledger
from tasks.merge import add_dates, infer_members, lock_dataset, locking_place, merge_rows
from tasks.message_rows import DatasetRows, MessageRows
from tasks.messages import DeadLetter
from tasks.personal_cells import encrypt_cells

_SETTINGS = """
    SET jit = off;
    -- A plan made for a batch of ten rows is not kept for one of twenty thousand.
    SET plan_cache_mode = force_custom_plan;
    SET work_mem = '64MB';
    -- A batch looks up thousands of keys: by the index, not by reading a table that has grown.
    SET random_page_cost = 1.1;
    -- Whoever is frozen in mid-transaction holds up the partitions' next owner no longer than this.
    SET idle_in_transaction_session_timeout = '10s';
"""
_STATEMENT_SECONDS = 30
"""The same for any statement but a COPY whose rest does not come: no timeout of PostgreSQL ends
that wait, but whoever claims the partitions next."""
_SEARCH_SECONDS = 600
"""For a replay's look at what is staged already."""

_POISON = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""What PostgreSQL says of a value that it will not take, however often it is asked."""

MAX_REFUSED = 100
"""Rows of one batch. Each costs a dozen tries; so many are no dirty data but another table."""

_BATCH_IDS = 100


class StreamSession:
    """One connection on which micro-batches are loaded, each in a transaction of its own."""

    def __init__(self, connection: Connection) -> None:
        """Use the connection until it breaks."""
        self.connection = connection
        self._prepared: set[str] = set()
        self._proved: KeyRing | None = None
        """The keys that are known to be the database's."""
        self._staged_in: dict[str, str] = {}
        """By dataset: the table that takes today's messages."""
        self._batch_ids: list[int] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: Pool) -> AsyncIterator["StreamSession"]:
        """Yield a session on a connection of the pool."""
        async with pool.acquire() as connection:
            await connection.execute(_SETTINGS)
            yield cls(connection)

    async def next_batch_id(self) -> int:
        """Return a number that no other batch has."""
        if not self._batch_ids:
            rows = await self.connection.fetch(
                "SELECT nextval('metadata.source_files_id_seq') AS id FROM generate_series(1, $1)",
                _BATCH_IDS,
            )
            self._batch_ids = [row["id"] for row in reversed(rows)]
        return self._batch_ids.pop()

    async def prepare(self, specs: Iterable[Spec]) -> None:
        """Leave landing tables for these datasets; to be called outside of a transaction."""
        specs = tuple(specs)
        ring = key_ring_for(*specs)
        if ring is not None and ring is not self._proved:
            await prove_keys(self.connection, ring)
            self._proved = ring
        for spec in specs:
            if spec.table not in self._prepared:
                for statement in session_sql(spec).create_tables():
                    await self.connection.execute(statement)
                self._prepared.add(spec.table)
            await self._prepare_day(spec)

    async def _prepare_day(self, spec: Spec) -> None:
        table = day_table(spec, dt.datetime.now(dt.UTC).date())
        if self._staged_in.get(spec.table) == table:
            return
        async with self.connection.transaction():
            # IF NOT EXISTS alone does not keep two consumers at midnight apart.
            await lock_dataset(self.connection, table)
            for statement in session_sql(spec).create_staged(table):
                await self.connection.execute(statement)
        self._staged_in[spec.table] = table

    async def lock(self, *loads: MessageRows, is_replay: bool = False) -> None:
        """Hold the locks of the datasets until the transaction ends, then bound its statements.

        is_replay: those of datasets that are not merged too: of two replays that stage what is
        missing, one must see what the other staged.
        """
        specs = {each.spec.table: each.spec for rows in loads for each in rows.datasets}
        for spec in sorted(specs.values(), key=locking_place):
            if is_replay or spec.role is not Role.STAGING:
                await lock_dataset(self.connection, spec.table)
        await self._bound_statements(_STATEMENT_SECONDS)

    async def load(
        self, rows: MessageRows, batch_id: int, *, only_missing: bool = False
    ) -> tuple[dict[str, Ledger], list[DeadLetter]]:
        """Leave the rows in staging and the warehouse; returns each dataset's ledger.

        A row that PostgreSQL refuses becomes a dead letter, the others are loaded. The caller
        holds the transaction and the locks. only_missing: messages that may have been read before
        are staged once.
        """
        ledgers: dict[str, Ledger] = {}
        refused: list[DeadLetter] = []
        # Dimensions first: a fact finds the row, and the version of it, that came with it.
        for each in sorted(rows.datasets, key=lambda each: locking_place(each.spec), reverse=True):
            ledger, dead = await self._load(each, batch_id, only_missing=only_missing)
            tally = rows.tallies.get(each.spec.table)
            ledgers[each.spec.table] = ledger + Ledger(
                read=each.rows.height,
                quarantined=len(dead),
                filled=tally.filled.total() if tally else 0,
            )
            refused += dead
        return ledgers, refused

    async def _load(
        self, dataset: DatasetRows, batch_id: int, *, only_missing: bool
    ) -> tuple[Ledger, list[DeadLetter]]:
        dead: list[DeadLetter] = []
        while True:
            try:
                async with self.connection.transaction():
                    ledger = await self._land(dataset, batch_id, only_missing=only_missing)
                    return ledger, dead
            except _POISON:
                # The others are then loaded as one: rows of one key are ranked together.
                found = await self._find_refused(dataset, batch_id, only_missing=only_missing)
                if not found:
                    raise
                dead += found
                dataset = dataset.without(each.position for each in found)

    async def _find_refused(
        self, dataset: DatasetRows, batch_id: int, *, only_missing: bool
    ) -> list[DeadLetter]:
        """Return the rows that PostgreSQL refuses beside those before them; leaves none loaded."""
        trial = self.connection.transaction()
        await trial.start()
        dead: list[DeadLetter] = []
        await self._bisect(dataset.in_key_order(), batch_id, dead, only_missing=only_missing)
        await trial.rollback()
        return dead

    async def _bisect(
        self, dataset: DatasetRows, batch_id: int, dead: list[DeadLetter], *, only_missing: bool
    ) -> None:
        """Add each row that PostgreSQL refuses to the dead; raises when there is no end of them."""
        try:
            async with self.connection.transaction():
                await self._land(dataset, batch_id, only_missing=only_missing)
        except _POISON as error:
            height = dataset.rows.height
            if height <= 1:
                dead.append(_refused(dataset, error))
                if len(dead) > MAX_REFUSED:
                    raise TerminalError(
                        f"PostgreSQL refuses more than {MAX_REFUSED} rows of a batch of "
                        f"{dataset.spec.table} that its contract takes ({dead[-1].detail}); the "
                        "batch waits: mend the table, or the contract."
                    ) from error
                return
            for start, length in ((0, height // 2), (height // 2, height - height // 2)):
                part = dataset.take(start, length)
                await self._bisect(part, batch_id, dead, only_missing=only_missing)

    async def _land(self, dataset: DatasetRows, batch_id: int, *, only_missing: bool) -> Ledger:
        spec, sql = dataset.spec, session_sql(dataset.spec)
        if not dataset.rows.height:
            return Ledger()
        if spec.role is Role.STAGING and not only_missing:
            await self._copy(dataset, batch_id, STAGING, self._staged_in[spec.table])
            return Ledger(inserted=dataset.rows.height)
        for statement in sql.empty():
            await self.connection.execute(statement)
        dataset = dataset.in_key_order()
        loses, duplicates, superseded = dataset.rank()
        await self._copy(dataset, batch_id, "pg_temp", sql.landing_name, loses)
        staged = await self._stage(sql, only_missing=only_missing)
        if spec.role is Role.STAGING:
            return Ledger(inserted=staged, unchanged=dataset.rows.height - staged)
        inferred = await infer_members(self.connection, sql, dataset.named)
        await add_dates(self.connection, sql, dataset.dates_outside)
        is_late = await self._is_late(dataset)
        if spec.role is Role.FACT and not is_late:
            winners = dataset.rows.height - duplicates - superseded
            merged = await self._upsert(sql, batch_id, winners)
        else:
            merged = await merge_rows(
                self.connection,
                sql,
                rows=dataset.rows.height,
                has_repeated=bool(duplicates or superseded),
                comes_late=is_late,
            )
        return merged + Ledger(duplicates=duplicates, superseded=superseded, inferred=inferred)

    async def _upsert(self, sql: SessionSql, batch_id: int, winners: int) -> Ledger:
        [seen] = await self.connection.fetch(sql.upsert(), batch_id)
        inserted, updated, unchanged = seen[NEW], seen[CHANGED], seen[CONFIRMED]
        superseded = 0
        if inserted + updated + unchanged != winners:
            [rest] = await self.connection.fetch(sql.classify_rest(), batch_id)
            unchanged, superseded = rest[UNCHANGED], rest[SUPERSEDED]
        return Ledger(
            inserted=inserted, updated=updated, unchanged=unchanged, superseded=superseded
        )

    async def _stage(self, sql: SessionSql, *, only_missing: bool) -> int:
        statement = sql.stage(self._staged_in[sql.spec.table], only_missing=only_missing)
        if not only_missing:
            return affected(await self.connection.execute(statement))
        # It reads what was staged before, however much that is, and waits for nobody meanwhile.
        await self._bound_statements(_SEARCH_SECONDS)
        staged = affected(await self.connection.execute(statement))
        await self._bound_statements(_STATEMENT_SECONDS)
        return staged

    async def _bound_statements(self, seconds: int) -> None:
        await self.connection.execute(f"SET LOCAL statement_timeout = '{seconds}s'")

    async def _copy(
        self,
        dataset: DatasetRows,
        batch_id: int,
        schema: str,
        table: str,
        loses: pl.Series | None = None,
    ) -> None:
        # In a thread: the next messages are fetched meanwhile.
        names, data = await asyncio.to_thread(_encode, dataset, batch_id, loses)
        # Of a file asyncpg makes a class whose instances only the garbage collector can end, with
        # the data in them, and reads it by another thread.
        await self.connection.copy_to_table(
            table,
            schema_name=schema,
            columns=names,
            source=memoryview(data),  # type: ignore[arg-type] # the stubs do not know of buffers
            format="binary",
        )

    async def _is_late(self, dataset: DatasetRows) -> bool:
        """Tell whether a file with a newer version was loaded before.

        Such a file leaves the version of a row that it only confirms as it was; messages do not.
        """
        found: bool = await self.connection.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM metadata.source_files
                WHERE dataset = $1 AND status = 'LOADED' AND staged_in IS NOT NULL
                    AND modified_at > $2
            )
            """,
            dataset.spec.table,
            dataset.oldest_version,
        )
        return found


def _encode(
    dataset: DatasetRows, batch_id: int, loses: pl.Series | None
) -> tuple[list[str], bytes]:
    """Return the rows as a binary COPY stream, and the columns it has."""
    own = stored_columns(dataset.spec) + LANDED_COLUMNS + LINEAGE_COLUMNS
    names = [name for name, _ in own]
    rows = encrypt_cells(dataset.rows, dataset.spec, dataset.keys)
    frame = rows.with_columns(pl.lit(batch_id, dtype=pl.Int64).alias("_batch_id"))
    if loses is not None:
        names.append(LOSES)
        frame = frame.with_columns(loses.alias(LOSES))
    frame = frame.select(names)
    encoder = CopyEncoder(frame.schema, json_columns=(EXTRA,))
    return names, encoder.encode(frame) + encoder.finish()


def _refused(dataset: DatasetRows, error: BaseException) -> DeadLetter:
    spec = dataset.spec
    # PostgreSQL's first line may quote the value.
    said = type(error).__name__ if any(each.pii for each in spec.columns) else str(error)
    return DeadLetter(
        int(dataset.positions[0]),
        spec.table,
        "refused_by_database",
        f"PostgreSQL does not take the row: {said.splitlines()[0]}",
        spec.contract_version,
    )
