"""What was acknowledged against what was loaded, row by row, by nothing of the platform's.

It reads the producer's record of answers, the tables over asyncpg, and the log's ends.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.chaos.stream_events import TABLE, Fate, amount_of, fate_of, note_of
from tests.chaos.stream_producer import ANSWERS, event_id
from tests.chaos.stream_stage import Stage

SHOWN_EVENTS = 5


@dataclass
class Verdict:
    """What became of the events; each that was acknowledged is in one of loaded, dead and lost."""

    sent: int = 0
    """Acknowledged by the broker."""
    loaded: int = 0
    dead: int = 0
    lost: int = 0
    duplicated: int = 0
    """Events found more than once, whether acknowledged or in doubt: in the table, among the dead
    letters, or in both."""
    doubtful: int = 0
    """Sent, and answered by an error: they may be in the topic once, or not at all."""
    doubtful_found: int = 0
    flaws: list[str] = field(default_factory=list)
    """Sentences about anything else that does not add up."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.lost and not self.duplicated and not self.flaws

    @property
    def last_line(self) -> str:
        """What the command says last."""
        return (
            f"sent={self.sent} loaded={self.loaded} dead={self.dead} lost={self.lost} "
            f"duplicated={self.duplicated}"
        )


@dataclass(frozen=True)
class Sent:
    """What the producer wrote down, in columns."""

    events: np.ndarray
    partitions: np.ndarray
    offsets: np.ndarray
    """-1 where the broker did not say."""
    doubtful: np.ndarray

    @classmethod
    def read(cls, path: Path, partitions: int) -> "Sent":
        """Read the file."""
        events, placed, offsets, doubtful = [], [], [], []
        with path.open(newline="") as file:
            for answer, partition, offset, place, count, _ in csv.reader(file):
                number, many, base = int(partition), int(count), int(offset)
                numbers = event_id(number, int(place) + np.arange(many), partitions)
                if answer == "doubtful":
                    doubtful.append(numbers)
                    continue
                events.append(numbers)
                placed.append(np.full(many, number))
                offsets.append(base + np.arange(many) if base >= 0 else np.full(many, -1))
        none = np.zeros(0, dtype=np.int64)
        return cls(*(np.concatenate([none, *each]) for each in (events, placed, offsets, doubtful)))


@dataclass(frozen=True)
class Found:
    """Where events were found, in columns."""

    events: np.ndarray
    partitions: np.ndarray
    offsets: np.ndarray


async def compare(stage: Stage) -> Verdict:
    """Return what became of every event."""
    partitions = stage.servers.partitions
    sent = Sent.read(stage.servers.folder / ANSWERS, partitions)
    verdict = Verdict(sent=len(sent.events), doubtful=len(sent.doubtful))
    rows, dead = await _find_rows(stage, verdict), await _find_dead(stage, verdict)
    size = 1 + max(int(each.max(initial=0)) for each in (sent.events, sent.doubtful, rows.events))
    in_table = np.bincount(rows.events, minlength=size)
    in_letters = np.bincount(dead.events, minlength=size)
    times = in_table + in_letters
    verdict.loaded = int((in_table[sent.events] > 0).sum())
    verdict.dead = int(((in_letters > 0) & (in_table == 0))[sent.events].sum())
    verdict.lost = int((times[sent.events] == 0).sum())
    verdict.duplicated = int((times > 1).sum())
    verdict.doubtful_found = int((times[sent.doubtful] > 0).sum())
    for name, events in (
        ("duplicated", np.flatnonzero(times > 1)),
        ("lost", sent.events[times[sent.events] == 0]),
    ):
        if len(events):
            verdict.flaws.append(f"{name}: {_where(events[:SHOWN_EVENTS], sent, rows, dead)}")
    known = np.zeros(len(times), dtype=bool)
    known[sent.events] = True
    known[sent.doubtful] = True
    if strangers := int((times[~known] > 0).sum()):
        verdict.flaws.append(f"{strangers} events were loaded that nobody sent")
    _check_places(verdict, sent, rows, dead, len(times))
    await _check_ledger(verdict, stage, rows, dead)
    return verdict


async def _find_rows(stage: Stage, verdict: Verdict) -> Found:
    rows = await stage.view.fetch(
        f"SELECT event_id, amount, note, _source, _line FROM staging.{TABLE}"  # noqa: S608 - constants
    )
    wrong = sum(
        row["amount"] != amount_of(row["event_id"])
        or row["note"] != note_of(row["event_id"])
        or fate_of(row["event_id"]) is not Fate.ROW
        for row in rows
    )
    if wrong:
        verdict.flaws.append(f"{wrong} rows say something else than their events")
    return Found(
        np.fromiter((row["event_id"] for row in rows), np.int64, len(rows)),
        np.fromiter((int(row["_source"].rpartition("/")[2]) for row in rows), np.int64, len(rows)),
        np.fromiter((row["_line"] for row in rows), np.int64, len(rows)),
    )


async def _find_dead(stage: Stage, verdict: Verdict) -> Found:
    rows = await stage.view.fetch(
        "SELECT message_key, reason, partition, message_offset FROM metadata.dead_letters"
    )
    wrong = [
        f"{row['message_key'].decode()} ({row['reason']})"
        for row in rows
        if not row["reason"].startswith(fate_of(int(row["message_key"])))
    ]
    if wrong:
        verdict.flaws.append(f"{len(wrong)} dead letters have another reason, such as {wrong[0]}")
    return Found(
        np.fromiter((int(row["message_key"]) for row in rows), np.int64, len(rows)),
        np.fromiter((row["partition"] for row in rows), np.int64, len(rows)),
        np.fromiter((row["message_offset"] for row in rows), np.int64, len(rows)),
    )


def _check_places(verdict: Verdict, sent: Sent, rows: Found, dead: Found, size: int) -> None:
    """Hold where each event was found against where the broker said that it put it."""
    partition, offset = np.full(size, -1), np.full(size, -1)
    partition[sent.events], offset[sent.events] = sent.partitions, sent.offsets
    for each in (rows, dead):
        told = offset[each.events] >= 0
        moved = told & (
            (partition[each.events] != each.partitions) | (offset[each.events] != each.offsets)
        )
        if moved.any():
            verdict.flaws.append(
                f"{int(moved.sum())} events were found elsewhere than the broker had put them"
            )


async def _check_ledger(verdict: Verdict, stage: Stage, rows: Found, dead: Found) -> None:
    """Hold what the consumers wrote down against the log, the table and the dead letters."""
    async with stage.servers.brokers() as brokers:
        ends = await brokers.ends()
    committed = await stage.view.next_offsets()
    [sums] = await stage.view.fetch(
        """
        SELECT sum(messages)::bigint AS messages, sum(loaded)::bigint AS loaded,
            sum(dead)::bigint AS dead, sum(skipped)::bigint AS skipped,
            count(*) AS batches
        FROM metadata.stream_batches
        """
    )
    [gaps] = await stage.view.fetch(
        """
        SELECT count(*) FILTER (WHERE first_offset <> coalesce(ended, 0)) AS gaps
        FROM (
            SELECT g.first_offset,
                lag(g.next_offset) OVER (PARTITION BY g.partition ORDER BY g.first_offset) AS ended
            FROM metadata.stream_batches AS b,
                unnest(b.partitions, b.first_offsets, b.next_offsets)
                    AS g (partition, first_offset, next_offset)
        ) AS spans
        """
    )
    [counts] = await stage.view.fetch(
        """
        SELECT sum(read)::bigint AS read, sum(inserted)::bigint AS inserted,
            sum(quarantined)::bigint AS quarantined,
            sum(updated + unchanged + superseded + duplicates)::bigint AS others
        FROM metadata.dataset_counts
        """
    )
    broken = sum(fate_of(int(each)) is Fate.BREAKS_CONTRACT for each in dead.events)
    for what, there, wanted in (
        ("offsets in PostgreSQL", committed, ends),
        ("messages of all batches", sums["messages"], sum(ends.values())),
        ("rows of all batches", sums["loaded"], len(rows.events)),
        ("dead letters of all batches", sums["dead"], len(dead.events)),
        ("messages that batches skipped", sums["skipped"], 0),
        ("batches that do not begin where the one before ended", gaps["gaps"], 0),
        ("rows read, by dataset", counts["read"], len(rows.events) + broken),
        ("rows inserted, by dataset", counts["inserted"], len(rows.events)),
        ("rows that broke the contract, by dataset", counts["quarantined"], broken),
        ("rows of any other fate, by dataset", counts["others"], 0),
    ):
        if there != wanted:
            verdict.flaws.append(f"{what}: {there} are written down, {wanted} there are")


def _where(events: np.ndarray, sent: Sent, rows: Found, dead: Found) -> str:
    def places(event: int, found: Sent | Found) -> list[str]:
        at = np.flatnonzero(found.events == event)
        return [f"{found.partitions[each]}/{found.offsets[each]}" for each in at]

    return "; ".join(
        f"{event} sent to {places(event, sent)}, rows from {places(event, rows)}, dead letters from"
        f" {places(event, dead)}"
        for event in events.tolist()
    )
