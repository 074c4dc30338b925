"""Produces one source, a file or an API's answer, unless the topic has it already just as it is.

The manifest says so of a source once Kafka has acknowledged every message of it, and what it
refused stands in `metadata.unsent_messages`. A crash before that makes the next run produce the
source again, which the merge makes harmless: nothing is lost, and nothing counts twice.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from infra.kafka.producer import Producer
from infra.postgres.connection import TRANSIENT, Connection, Pool
from schemas.dataset import Spec
from schemas.errors import LedgerError, RefusedError, TransientError
from tasks.discover_files import Found
from tasks.extract_api import Fetched
from tasks.load import Progress
from tasks.load_file import has_same_bytes, open_source
from tasks.make_envelopes import Parcel, parcel_records, parcel_rows
from tasks.manifest import Entry, Loaded, find_loaded, note_untouched, open_entry
from tasks.prefetch import from_thread, prefetch
from tasks.produce import produce_many
from tasks.quarantine import Quarantine
from tasks.sealing import ring_for_source
from tasks.unsent import FOR_A_PERSON, keep_unsent

MAX_REFUSED = 10_000
"""A source of which Kafka refuses more than this is not kept aside but produced again."""


class Outcome(StrEnum):
    """What became of a source."""

    PRODUCED = "PRODUCED"
    UNCHANGED = "UNCHANGED"
    """The topic was given it before just as it is; nothing was sent."""
    REFUSED = "REFUSED"
    """It could not be read to its end, or Kafka was away."""
    UNREACHABLE = "UNREACHABLE"
    """An API that is down: a warning, not a failure."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is to be produced where, and on behalf of which run."""

    execution_id: int
    topic: str
    path: str
    """Where it comes from: the file's absolute path, or the endpoint's URL."""
    table: str
    """The dataset's name, or the sane name of a source without a contract."""
    spec: Spec | None

    @property
    def entry(self) -> Entry:
        """A line for the manifest, under a path that no load has."""
        return Entry(
            execution_id=self.execution_id,
            load_id=uuid.uuid4(),
            path=f"kafka:{self.topic}:{self.path}",
            table=self.table,
            contract_version=self.spec.contract_version if self.spec else None,
        )


@dataclass(frozen=True, slots=True)
class Produced:
    """What became of one source: `read = sent + refused + quarantined`."""

    path: str
    table: str
    outcome: Outcome
    read: int = 0
    """Records, the ones without cells too."""
    sent: int = 0
    """Acknowledged by Kafka."""
    refused: int = 0
    """Not taken by Kafka: in metadata.unsent_messages."""
    hopeless: int = 0
    """Of the refused, those that no later run will send."""
    quarantined: int = 0
    """Rows of a file that cannot be split into cells: in metadata.quarantine."""
    message: str = ""
    """Why it was refused or skipped."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Facts:
    """A source as a whole, once it was read."""

    read: int
    size_bytes: int
    sha256: str
    notes: Sequence[str]


async def produce_file(
    pool: Pool,
    producer: Producer,
    found: Found,
    shipment: Shipment,
    *,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Produced:
    """Leave a message in the topic for each row of the file; memory stays bounded.

    force: produce a file again that the topic has already.
    Raises RefusedError when the file cannot be read, TransientError when it changed meanwhile or
    Kafka or PostgreSQL is away.
    """

    async def produce() -> Produced:
        before = await _find_produced(pool, shipment)
        if before and not force and await asyncio.to_thread(has_same_bytes, before, found.path):
            return _unchanged(shipment, before)
        source = await asyncio.to_thread(open_source, found)
        with source:
            return await _produce(
                pool,
                producer,
                shipment,
                parcel_rows(source, shipment.table, shipment.spec),
                lambda: _Facts(source.records, source.size_bytes, source.sha256, source.notes),
                on_progress,
            )

    return await _noting_refusal(pool, shipment, produce)


async def produce_answer(
    pool: Pool, producer: Producer, fetched: Fetched, shipment: Shipment, *, force: bool = False
) -> Produced:
    """Leave a message in the topic for each record that an API answered; errors as for a file."""

    async def produce() -> Produced:
        before = await _find_produced(pool, shipment)
        if before and not force and before.sha256 == fetched.sha256:
            return _unchanged(shipment, before)
        return await _produce(
            pool,
            producer,
            shipment,
            parcel_records(fetched.records, shipment.table, shipment.spec, fetched.fetched_at),
            lambda: _Facts(len(fetched.records), 0, fetched.sha256, fetched.notes),
            None,
        )

    return await _noting_refusal(pool, shipment, produce)


async def _produce(
    pool: Pool,
    producer: Producer,
    shipment: Shipment,
    parcels: Iterator[Parcel],
    describe: Callable[[], _Facts],
    on_progress: Progress | None,
) -> Produced:
    ring = ring_for_source(shipment.spec)
    sent = refused = hopeless = 0
    # Open while Kafka is waited for; it holds no lock that anybody else asks for.
    async with pool.acquire() as connection, connection.transaction():
        entry = await open_entry(connection, shipment.entry)
        with Quarantine(entry, ring) as quarantine:
            async with aclosing(prefetch(from_thread(parcels))) as ready:
                async for parcel in ready:
                    quarantine.add(parcel.rejects)
                    delivery = await produce_many(producer, shipment.topic, parcel.messages)
                    sent += delivery.sent
                    refused += len(delivery.refusals)
                    hopeless += sum(each.reason in FOR_A_PERSON for each in delivery.refusals)
                    if refused - hopeless > MAX_REFUSED:
                        raise _refused_too_much(shipment, delivery.refusals[-1].detail)
                    await keep_unsent(
                        connection,
                        delivery.refusals,
                        execution_id=shipment.execution_id,
                        topic=shipment.topic,
                        source=shipment.table,
                        ring=ring,
                    )
                    if on_progress is not None:
                        on_progress(parcel.read_bytes)
            quarantined = await quarantine.write(connection)
        facts = describe()
        produced = Produced(
            path=shipment.path,
            table=shipment.table,
            outcome=Outcome.PRODUCED,
            read=facts.read,
            sent=sent,
            refused=refused,
            hopeless=hopeless,
            quarantined=quarantined,
            notes=(*facts.notes, *_remark(shipment, quarantine, refused, hopeless)),
        )
        _refuse_imbalance(produced)
        await _complete(connection, entry, facts, produced)
    return produced


def _remark(
    shipment: Shipment, quarantine: Quarantine, refused: int, hopeless: int
) -> Iterator[str]:
    """Yield what a person should know of it, a clause each."""
    if shipment.spec is None:
        yield "there is no contract for it: its messages will be dead letters"
    for (_, rule), count in quarantine.rules.most_common():
        rows = "1 row is" if count == 1 else f"{count:,} rows are"
        yield f"{rows} no message but in quarantine ({rule})"
    if refused - hopeless:
        yield f"{refused - hopeless:,} messages were not taken by Kafka; the next run sends them"
    if hopeless:
        yield f"{hopeless:,} messages are too large for Kafka and kept in metadata.unsent_messages"


def _refused_too_much(shipment: Shipment, detail: str) -> TransientError:
    return TransientError(
        f"Kafka did not take more than {MAX_REFUSED:,} messages of {shipment.path}, such as one of "
        f"which is said: {detail} All of it is produced again by the next run."
    )


def _refuse_imbalance(produced: Produced) -> None:
    accounted = produced.sent + produced.refused + produced.quarantined
    if accounted != produced.read:
        raise LedgerError(
            f"The counts of {produced.path} do not add up: {produced.read:,} records were read and "
            f"{accounted:,} accounted for; it is produced again by the next run, and please report "
            "this."
        )


async def _complete(
    connection: Connection, entry: Entry, facts: _Facts, produced: Produced
) -> None:
    # Without modified_at: a load must not take what is on its way through Kafka for loaded.
    await connection.execute(
        """
        UPDATE metadata.source_files SET size_bytes = $2, sha256 = $3, rows = $4, notes = $5
        WHERE id = $1
        """,
        entry.batch_id,
        facts.size_bytes,
        facts.sha256,
        facts.read,
        list(produced.notes),
    )


async def _find_produced(pool: Pool, shipment: Shipment) -> Loaded | None:
    async with pool.acquire() as connection:
        return await find_loaded(connection, shipment.entry.path)


def _unchanged(shipment: Shipment, before: Loaded) -> Produced:
    # The manifest gets no line, unlike a load's: every five minutes would bury the others.
    message = f"unchanged since it was produced on {before.recorded_at:%Y-%m-%d %H:%M} UTC"
    return Produced(shipment.path, shipment.table, Outcome.UNCHANGED, message=message)


async def _noting_refusal(
    pool: Pool, shipment: Shipment, produce: Callable[[], Awaitable[Produced]]
) -> Produced:
    try:
        try:
            return await produce()
        except RefusedError as error:
            async with pool.acquire() as connection:
                await note_untouched(
                    connection, shipment.entry, Outcome.REFUSED, str(error), size_bytes=None
                )
            raise
    except TRANSIENT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TransientError(
            f"PostgreSQL went away while {shipment.path} was being produced ({reason}): it can be "
            "produced again, which changes nothing but the work."
        ) from error
