"""The stream's part of the demo: produce, have it consumed, look at the dead letters, replay.

The consumer is the one that the stack keeps alive; the rest are runs of deployments, as a person
would trigger them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import asyncpg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.demo import Ended, run_deployment
from deployments.summary import count_warehouse
from infra.postgres.connection import connect
from infra.settings import Settings
from schemas.errors import TerminalError
from tasks.topic_ends import read_topic_ends

PRODUCER = "kafka_data_ingestion/every-five-minutes"
REPLAY_TOPIC = "replay_topic/by-hand"
REPLAY_DEAD_LETTERS = "replay_dead_letters/by-hand"
CATCH_UP_SECONDS = 120.0
RELAY_SECONDS = 15.0
POLL_SECONDS = 0.25
REASONS_SHOWN = 3

_BATCHES = """
    SELECT coalesce(sum(messages), 0)::bigint AS messages,
           coalesce(sum(loaded), 0)::bigint AS loaded, coalesce(sum(skipped), 0)::bigint AS skipped,
           coalesce(sum(dead), 0)::bigint AS dead, count(*) AS batches
    FROM metadata.stream_batches AS b
    JOIN metadata.pipeline_executions AS e ON e.id = b.execution_id
    WHERE b.id > $1 AND e.pipeline_name = $2
"""
_LAST_BATCH = "SELECT coalesce(max(id), 0) FROM metadata.stream_batches"
_OFFSETS = """
    SELECT partition, next_offset FROM metadata.stream_offsets
    WHERE consumer_group = $1 AND topic = $2
"""
_REASONS = """
    SELECT source, reason, count(*) AS messages FROM metadata.dead_letters
    WHERE outcome IS DISTINCT FROM 'loaded' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT $1
"""
_DEAD = """
    SELECT count(*) AS letters, count(relayed_at) AS relayed FROM metadata.dead_letters
"""
_UNRELAYED = "SELECT EXISTS (SELECT FROM metadata.dead_letters WHERE relayed_at IS NULL)"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Batches:
    """What became of the messages of some batches."""

    messages: int
    loaded: int
    skipped: int
    dead: int
    batches: int


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What the stream did in a demo."""

    ended: tuple[Ended, ...]
    catch_up_seconds: float
    """From the end of producing to the commit of the last message."""
    consumed: Batches
    replayed: Batches
    """The topic, once more from its beginning."""
    letters: Batches
    """The dead letters, once more."""
    dead_letters: int
    """All that there are, of earlier demos too."""
    relayed: int
    reasons: tuple[tuple[str, str, int], ...]
    """Source, reason and messages, the commonest first."""
    changed_by_replay: dict[str, int]
    """Rows that tables of the warehouse gained by the replay of the topic: none should."""


async def run_stream(
    say: Say, check: Callable[[], None], database_url: str, settings: Settings
) -> StreamReport:
    """Produce the API's records and the folder's CSV files, follow them, and replay the topic."""
    connection = await connect(database_url)
    try:
        last_batch = await connection.fetchval(_LAST_BATCH)
        produced = await run_deployment(say, check, PRODUCER, {"with_csv": True})
        catch_up_seconds = await _catch_up(connection, settings, check)
        consumed = await _read_batches(connection, last_batch, "stream_processing_pipeline")
        say(f"The consumer has loaded them; {catch_up_seconds:.1f} s after the last was produced.")
        before = await count_warehouse(connection)
        replays = await asyncio.gather(
            run_deployment(say, check, REPLAY_TOPIC, {"from_offset": 0}),
            run_deployment(say, check, REPLAY_DEAD_LETTERS, {"dry_run": False}),
        )
        after = await count_warehouse(connection)
        await _wait_for_relay(connection)
        [dead] = await connection.fetch(_DEAD)
        return StreamReport(
            ended=(produced, *replays),
            catch_up_seconds=catch_up_seconds,
            consumed=consumed,
            replayed=await _read_batches(connection, last_batch, "replay_topic"),
            letters=await _read_batches(connection, last_batch, "replay_dead_letters"),
            dead_letters=dead["letters"],
            relayed=dead["relayed"],
            reasons=tuple(
                (row["source"] or "unknown source", row["reason"], row["messages"])
                for row in await connection.fetch(_REASONS, REASONS_SHOWN)
            ),
            changed_by_replay={
                table: rows - before[table]
                for table, rows in after.items()
                if rows != before[table]
            },
        )
    finally:
        await connection.close()


async def _read_batches(connection: asyncpg.Connection, after: int, pipeline: str) -> Batches:
    [row] = await connection.fetch(_BATCHES, after, pipeline)
    return Batches(**dict(row))


async def _catch_up(
    connection: asyncpg.Connection, settings: Settings, check: Callable[[], None]
) -> float:
    """Return after how many seconds all that is in the topic now was loaded."""
    began = monotonic()
    ends = await read_topic_ends(settings)
    while monotonic() - began < CATCH_UP_SECONDS:
        check()
        rows = await connection.fetch(_OFFSETS, settings.kafka_group, settings.kafka_topic)
        reached = {row["partition"]: row["next_offset"] for row in rows}
        if all(reached.get(partition, 0) >= end for partition, end in ends.items()):
            return monotonic() - began
        await asyncio.sleep(POLL_SECONDS)
    raise TerminalError(
        f"The consumer did not load what was produced within {CATCH_UP_SECONDS:.0f} s: see the log "
        "of stream_processing_pipeline."
    )


async def _wait_for_relay(connection: asyncpg.Connection) -> None:
    """Return when every dead letter is in its topic too, or this takes too long to wait for."""
    began = monotonic()
    while monotonic() - began < RELAY_SECONDS:
        if not await connection.fetchval(_UNRELAYED):
            return
        await asyncio.sleep(POLL_SECONDS)


def find_stream_shortfalls(report: StreamReport) -> list[str]:
    """Return a sentence for each figure that a sound stream would not show."""
    found = [f"{each.name} ended as {each.state}" for each in report.ended if not each.completed]
    for what, each in _named(report):
        if each.messages != each.loaded + each.skipped + each.dead:
            found.append(f"{each.messages} messages were {what}, and not as many accounted for")
    found += [
        f"the replay of the topic added {rows} rows to warehouse.{table}"
        for table, rows in report.changed_by_replay.items()
    ]
    return found


def _named(report: StreamReport) -> tuple[tuple[str, Batches], ...]:
    return (
        ("consumed", report.consumed),
        ("topic replayed", report.replayed),
        ("dead letters replayed", report.letters),
    )


def print_stream(console: Console, report: StreamReport) -> None:
    """Show what became of each message."""
    table = Table(title="What became of each message", title_justify="left")
    table.add_column("")
    for what, _ in _named(report):
        table.add_column(what, justify="right")
    for term in ("messages", "loaded", "skipped", "dead"):
        numbers = (getattr(each, term) for _, each in _named(report))
        label = term if term == "messages" else f"  {term}"
        table.add_row(label, *(f"{number:,}" for number in numbers), end_section=term == "messages")
    console.print()
    console.print(table)
    lines = [
        (
            "Loaded messages are in their tables as they came; skipped ones were said before, or "
            "are older than what is there."
        ),
        (
            f"Dead letters: {report.dead_letters:,}, {report.relayed:,} of them relayed to the "
            "topic of dead letters. Those that were replayed failed again, as their contract is "
            "what it was."
        ),
    ]
    if report.reasons:
        listed = ", ".join(
            f"{source}: {reason} ({count:,})" for source, reason, count in report.reasons
        )
        lines.append(f"The commonest reasons: {listed}")
    if not report.changed_by_replay:
        lines.append(
            f"The topic was read again from its beginning, {report.replayed.messages:,} messages: "
            "no table of the warehouse gained or lost a row."
        )
    for line in lines:
        console.print(Text(line), soft_wrap=True)
