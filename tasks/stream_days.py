"""What the stream brought of a dataset in a day: added up by consumer, judged when the day is over.

Each consumer writes what it brought since the last time into a row of its own, so that none waits
for another. Whichever finds a day over makes one load profile of all their rows, and judges it.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncpg
import structlog

from infra.postgres.connection import Connection
from schemas.dataset import Spec
from tasks.keep_profile import judge, keep_profile
from tasks.ledger import Ledger
from tasks.load_batch import BatchReport, count_rejects
from tasks.message_rows import MessageRows
from tasks.profile import LoadProfile, add_profiles, read_columns, write_columns

log = structlog.get_logger("sluiceway.stream")

GRACE = dt.timedelta(minutes=10)
"""How long after its end a day is left to consumers that have yet to write what they brought."""

_LOCK_CLASS = 0x51CA
_DAYS_LOCK = 1


@dataclass(slots=True)
class StreamDays:
    """Profiles of what one consumer brought and has not written yet, by day and dataset."""

    profiles: dict[tuple[dt.date, str], LoadProfile] = field(default_factory=dict)

    def add(self, report: BatchReport, rows: MessageRows, *, now: dt.datetime) -> None:
        """Take note of a batch that was committed now."""
        # A report that was found again after a lost answer has no ledgers.
        ledgers = report.ledgers or count_rejects(
            {each.spec.table: Ledger(read=each.rows.height) for each in rows.datasets}, rows
        )
        for dataset in rows.profiles | ledgers:
            ledger = ledgers.get(dataset, Ledger())
            self._add(
                now.astimezone(dt.UTC).date(),
                LoadProfile(
                    dataset=dataset,
                    feed=rows.messages.topic,
                    read=ledger.read,
                    duplicates=ledger.duplicates,
                    quarantined=ledger.quarantined,
                    columns=rows.profiles.get(dataset, ()),
                ),
            )

    def take_back(self, earlier: "StreamDays") -> None:
        """Take note of what could not be written."""
        later, self.profiles = self.profiles, dict(earlier.profiles)
        for (day, _), profile in later.items():
            self._add(day, profile)

    async def write(self, connection: Connection, *, execution_id: int) -> None:
        """Add the profiles to this consumer's rows, in the caller's transaction."""
        for (day, _), profile in sorted(self.profiles.items(), key=lambda each: each[0]):
            written = await connection.fetchrow(
                """
                DELETE FROM metadata.stream_days
                WHERE day = $1 AND dataset = $2 AND feed = $3 AND execution_id = $4
                RETURNING dataset, feed, read, duplicates, quarantined, columns
                """,
                day,
                profile.dataset,
                profile.feed,
                execution_id,
            )
            both = profile if written is None else add_profiles(_read(written), profile)
            await connection.execute(
                """
                INSERT INTO metadata.stream_days
                    (day, execution_id, dataset, feed, read, duplicates, quarantined, columns)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                """,
                day,
                execution_id,
                *_row(both),
            )

    def _add(self, day: dt.date, profile: LoadProfile) -> None:
        place = day, profile.dataset
        before = self.profiles.get(place)
        self.profiles[place] = profile if before is None else add_profiles(before, profile)


async def close_days(
    connection: Connection, specs: Mapping[str, Spec], *, execution_id: int, now: dt.datetime
) -> list[str]:
    """Leave one load profile a dataset for each day that is over, judged once; returns notes.

    specs: the contracts by table; what has none is kept and not judged. Returns at once where
    another does it at the moment. What a consumer writes of a day after that is added to the
    day's profile, which is not judged again.
    """
    last = (now - GRACE).astimezone(dt.UTC).date() - dt.timedelta(days=1)
    notes: list[str] = []
    async with connection.transaction():
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM metadata.stream_days WHERE day <= $1)"
            " AND pg_try_advisory_xact_lock($2, $3)",
            last,
            _LOCK_CLASS,
            _DAYS_LOCK,
        ):
            return notes
        for (day, *_), profile in (await _take(connection, last)).items():
            if not await _add_late(connection, day, profile):
                notes += await _close(connection, day, profile, specs, execution_id)
    return notes


async def _take(
    connection: Connection, last: dt.date
) -> dict[tuple[dt.date, str, str], LoadProfile]:
    """Delete what consumers brought until that day, and return it added up."""
    # Who froze while writing its row is not waited for: the row is added later.
    rows = await connection.fetch(
        """
        DELETE FROM metadata.stream_days AS t USING (
            SELECT day, dataset, feed, execution_id FROM metadata.stream_days WHERE day <= $1
            FOR UPDATE SKIP LOCKED
        ) AS over
        WHERE (t.day, t.dataset, t.feed, t.execution_id)
            = (over.day, over.dataset, over.feed, over.execution_id)
        RETURNING t.day, t.execution_id, t.dataset, t.feed, t.read, t.duplicates, t.quarantined,
            t.columns
        """,
        last,
    )
    days: dict[tuple[dt.date, str, str], LoadProfile] = {}
    # Earlier days first: they are history to later ones.
    for row in sorted(rows, key=lambda each: (each["day"], each["execution_id"])):
        place = row["day"], row["dataset"], row["feed"]
        profile = _read(row)
        days[place] = add_profiles(days[place], profile) if place in days else profile
    return days


async def _add_late(connection: Connection, day: dt.date, profile: LoadProfile) -> bool:
    """Add to the profile of a day that is closed; returns whether it is."""
    closed = await connection.fetchrow(
        """
        SELECT id, dataset, feed, read, duplicates, quarantined, columns
        FROM metadata.load_profiles WHERE dataset = $1 AND feed = $2 AND day = $3 FOR UPDATE
        """,
        profile.dataset,
        profile.feed,
        day,
    )
    if closed is None:
        return False
    both = add_profiles(_read(closed), profile)
    await connection.execute(
        """
        UPDATE metadata.load_profiles
        SET read = $2, duplicates = $3, quarantined = $4, columns = $5 WHERE id = $1
        """,
        closed["id"],
        both.read,
        both.duplicates,
        both.quarantined,
        write_columns(both.columns),
    )
    return True


async def _close(
    connection: Connection,
    day: dt.date,
    profile: LoadProfile,
    specs: Mapping[str, Spec],
    execution_id: int,
) -> list[str]:
    # The last moment that still is of the day, and so of its weekday.
    end = dt.datetime.combine(day, dt.time.max, tzinfo=dt.UTC)
    spec = specs.get(profile.dataset)
    anomalies = await judge(connection, profile, spec, at=end) if spec is not None else []
    await keep_profile(connection, profile, anomalies, execution_id=execution_id, day=day, at=end)
    log.info(
        "a day of the stream is over",
        dataset=profile.dataset,
        day=str(day),
        read=profile.read,
        anomalies=len(anomalies),
    )
    return [
        f"{profile.dataset} on {day} (UTC): anomaly ({each.severity}): {each.summary}"
        for each in anomalies
    ]


def _read(row: asyncpg.Record) -> LoadProfile:
    return LoadProfile(
        row["dataset"],
        row["feed"],
        row["read"],
        row["duplicates"],
        row["quarantined"],
        read_columns(row["columns"]),
    )


def _row(profile: LoadProfile) -> tuple[object, ...]:
    return (
        profile.dataset,
        profile.feed,
        profile.read,
        profile.duplicates,
        profile.quarantined,
        write_columns(profile.columns),
    )
