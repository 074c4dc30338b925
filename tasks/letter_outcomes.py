"""What became of single messages of a load, told from the rows that are there after it."""

from collections.abc import Collection, Sequence
from enum import StrEnum

import polars as pl

from infra.postgres.connection import Connection
from infra.postgres.identifiers import quote
from infra.postgres.layout import Target, sql_type
from schemas.dataset import Role, Spec
from tasks.clean import ROW_HASH
from tasks.message_rows import DatasetRows, MessageRows
from tasks.messages import Batch, DeadLetter

_LOST, _SAME, _SAID, _POSITION = "_lost", "_same", "_said", "_position"
"""No column of a contract begins with an underscore."""


class Outcome(StrEnum):
    """What a replay made of a dead letter."""

    LOADED = "loaded"
    SUPERSEDED = "superseded"
    """A newer message has said otherwise of the same row: it came too late."""
    DUPLICATE = "duplicate"
    """Another message of the same load said the same, later."""
    FAILED = "failed"


async def tell_outcomes(
    connection: Connection,
    rows: MessageRows,
    dead: Sequence[DeadLetter],
    wanted: Collection[int],
) -> dict[int, Outcome]:
    """Return what became of these messages, by their position; of those that made a row.

    dead: those that made none. To be called in the transaction of the load, after it: a row that
    lost shows by the table holding something else for its key.
    """
    outcomes: dict[int, Outcome] = {}
    refused = [each.position for each in dead]
    for each in rows.datasets:
        # A row that PostgreSQL refused has beaten no other.
        dataset = each.without(refused)
        chosen = dataset.positions.is_in(list(wanted))
        positions = dataset.positions.filter(chosen).to_list()
        told = dict.fromkeys(positions, Outcome.LOADED)
        if positions and dataset.spec.role is not Role.STAGING:
            told |= await _find_losers(connection, dataset, chosen)
        outcomes |= told
    return outcomes


async def settle_letters(
    connection: Connection,
    group: str,
    batch: Batch,
    rows: MessageRows,
    dead: Sequence[DeadLetter],
) -> int:
    """Mark the group's dead letters whose messages a replay of their topic has loaded after all.

    Returns how many. To be called in the transaction of the load, after it. A letter that somebody
    else replays just now is left to that one.
    """
    waiting = await connection.fetch(
        """
        SELECT d.id, d.partition, d.message_offset
        FROM metadata.dead_letters AS d
        JOIN unnest($3::int[], $4::int[], $5::bigint[], $6::bigint[])
            AS g (partition, generation, first_offset, next_offset)
            ON d.partition = g.partition AND d.generation = g.generation
                AND d.message_offset >= g.first_offset AND d.message_offset < g.next_offset
        WHERE d.consumer_group = $1 AND d.topic = $2
            AND (d.outcome IS NULL OR d.outcome = 'failed')
        FOR UPDATE OF d SKIP LOCKED
        """,
        group,
        batch.messages.topic,
        [each.partition for each in batch.spans],
        [each.generation for each in batch.spans],
        [each.first for each in batch.spans],
        [each.next for each in batch.spans],
    )
    if not waiting:
        return 0
    ids = {(each["partition"], each["message_offset"]): each["id"] for each in waiting}
    places = zip(batch.messages.partitions.tolist(), batch.messages.offsets.tolist(), strict=True)
    letters = {position: ids[place] for position, place in enumerate(places) if place in ids}
    outcomes = await tell_outcomes(connection, rows, dead, letters.keys())
    await connection.execute(
        """
        UPDATE metadata.dead_letters AS d
        SET outcome = g.outcome, replayed_at = clock_timestamp()
        FROM unnest($1::bigint[], $2::text[]) AS g (id, outcome)
        WHERE d.id = g.id
        """,
        [letters[position] for position in outcomes],
        list(outcomes.values()),
    )
    return len(outcomes)


async def _find_losers(
    connection: Connection, dataset: DatasetRows, chosen: pl.Series
) -> dict[int, Outcome]:
    spec = dataset.spec
    key = list(spec.key)
    loses, _, _ = dataset.rank()
    frame = dataset.rows.select(
        *key, ROW_HASH, dataset.positions.alias(_POSITION), loses.alias(_LOST)
    )
    winners = frame.filter(~pl.col(_LOST)).select(*key, pl.col(ROW_HASH).alias(_SAID))
    frame = frame.filter(chosen).join(winners, on=key, how="left", maintain_order="left")
    same = pl.col(ROW_HASH) == pl.col(_SAID)
    beaten = frame.filter(pl.col(_LOST))
    losers = {
        position: Outcome.DUPLICATE if is_same else Outcome.SUPERSEDED
        for position, is_same in beaten.select(_POSITION, same.alias(_SAME)).iter_rows()
    }
    held = frame.filter(~pl.col(_LOST))
    late = await connection.fetch(
        _differing(spec),
        held[_POSITION].to_list(),
        held[ROW_HASH].to_list(),
        *(held[name].to_list() for name in key),
    )
    return losers | {row[_POSITION]: Outcome.SUPERSEDED for row in late}


def _differing(spec: Spec) -> str:
    """Say which rows, given by position, hash and key, the table does not hold as they are."""
    target = Target(spec)
    given = "".join(
        f", ${place}::{sql_type(spec.column(name))}[]" for place, name in enumerate(spec.key, 3)
    )
    names = "".join(f", {quote(name)}" for name in spec.key)
    matches = " AND ".join(f"t.{quote(name)} = g.{quote(name)}" for name in spec.key)
    current = " AND t.is_current" if target.keeps_versions else ""
    return f"""
SELECT g._position FROM unnest($1::bigint[], $2::bigint[]{given}) AS g (_position, _said{names})
JOIN {target.table} AS t ON {matches}{current}
WHERE t."_row_hash" <> g._said
"""  # noqa: S608 - identifiers are quoted
