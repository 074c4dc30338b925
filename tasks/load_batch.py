"""Loads a micro-batch: rows, dead letters, ledgers and offsets in one transaction, or nothing."""

from dataclasses import dataclass, field
from time import monotonic

from infra.postgres.connection import Connection
from tasks.dead_letters import bury, generations_of
from tasks.ledger import Ledger
from tasks.letter_outcomes import settle_letters
from tasks.message_rows import MessageRows
from tasks.messages import Batch
from tasks.offsets import Reader, advance
from tasks.sealing import Sealing
from tasks.stream_session import StreamSession


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of the messages of one micro-batch."""

    batch_id: int
    messages: int
    loaded: int
    dead: int
    skipped: int
    """Duplicates, superseded ones, and dead letters that were buried before."""
    flush_seconds: float
    ledgers: dict[str, Ledger] = field(default_factory=dict)


async def load_batch(
    session: StreamSession,
    batch: Batch,
    rows: MessageRows,
    reader: Reader,
    *,
    sealing: Sealing,
    execution_id: int | None,
    is_replay: bool = False,
) -> BatchReport:
    """Leave every message of the batch in its tables or among the dead letters, and count them.

    The offsets move in the same transaction: it is done once, or not at all. Raises FencedError
    when another consumer has claimed one of its partitions, an error of TRANSIENT when PostgreSQL
    went away. sealing: says which dead letters are encrypted. is_replay: the messages are read
    again, beside the group's offsets; what was a dead letter and is loaded now is marked so.
    """
    started = monotonic()
    connection = session.connection
    await session.prepare(each.spec for each in rows.datasets)
    batch_id = await session.next_batch_id()
    async with connection.transaction():
        await session.lock(rows, is_replay=is_replay)
        if not is_replay:
            await advance(connection, reader, batch.spans)
        ledgers, refused = await session.load(rows, batch_id, only_missing=is_replay)
        dead = [*rows.dead, *refused]
        buried = await bury(
            connection,
            reader.group,
            batch.messages,
            dead,
            sealing=sealing,
            generations=generations_of(batch.spans),
            batch_id=batch_id,
            execution_id=execution_id,
        )
        if is_replay:
            await settle_letters(connection, reader.group, batch, rows, dead)
        ledgers = count_rejects(ledgers, rows)
        for table, ledger in ledgers.items():
            ledger.refuse_imbalance(f"{batch.messages.topic} ({table})")
        loaded = sum(each.loaded for each in ledgers.values())
        skipped = sum(each.duplicates + each.superseded for each in ledgers.values())
        report = BatchReport(
            batch_id=batch_id,
            messages=len(batch.messages),
            loaded=loaded,
            dead=buried,
            skipped=skipped + len(dead) - buried,
            flush_seconds=monotonic() - started,
            ledgers=ledgers,
        )
        await note_batch(connection, batch, report, reader, execution_id, is_replay=is_replay)
    return report


async def find_report(connection: Connection, reader: Reader, batch: Batch) -> BatchReport | None:
    """Return the report of a batch that was committed, without its ledgers."""
    row = await connection.fetchrow(
        """
        SELECT id AS batch_id, messages, loaded, dead, skipped, flush_seconds
        FROM metadata.stream_batches
        WHERE consumer_group = $1 AND topic = $2 AND partitions = $3 AND next_offsets = $4
            AND NOT is_replay
        ORDER BY id DESC LIMIT 1
        """,
        reader.group,
        reader.topic,
        [each.partition for each in batch.spans],
        [each.next for each in batch.spans],
    )
    return None if row is None else BatchReport(**dict(row))


def count_rejects(ledgers: dict[str, Ledger], rows: MessageRows) -> dict[str, Ledger]:
    """Return the ledgers with the rows that broke their contract, which never reached a table."""
    counted = dict(ledgers)
    for each in rows.dead:
        if each.contract_version is not None and each.source is not None:
            before = counted.get(each.source, Ledger())
            counted[each.source] = before + Ledger(read=1, quarantined=1)
    return counted


async def note_batch(
    connection: Connection,
    batch: Batch,
    report: BatchReport,
    reader: Reader,
    execution_id: int | None,
    *,
    is_replay: bool,
) -> None:
    """Write the batch down; what does not add up is refused by the table."""
    await connection.execute(
        """
        INSERT INTO metadata.stream_batches
            (id, execution_id, consumer_group, topic, partitions, first_offsets, next_offsets,
             messages, loaded, dead, skipped, size_bytes, flush_seconds, is_replay)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        """,
        report.batch_id,
        execution_id,
        reader.group,
        batch.messages.topic,
        [each.partition for each in batch.spans],
        [each.first for each in batch.spans],
        [each.next for each in batch.spans],
        report.messages,
        report.loaded,
        report.dead,
        report.skipped,
        batch.messages.size_bytes,
        report.flush_seconds,
        is_replay,
    )
    if execution_id is None:
        return
    await connection.executemany(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined, filled, inferred)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        [
            (
                execution_id,
                report.batch_id,
                table,
                batch.messages.topic,
                each.read,
                each.inserted,
                each.updated,
                each.unchanged,
                each.superseded,
                each.duplicates,
                each.quarantined,
                each.filled,
                each.inferred,
            )
            for table, each in report.ledgers.items()
        ],
    )
