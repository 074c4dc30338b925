"""Loads one source into staging and the warehouse: all of it in one transaction, or nothing.

    read -> clean and encode -> COPY -> quarantine -> merge -> ledger -> COMMIT

The first three overlap. A crash at any moment leaves the database as it was before, and the next
run loads the source again; a COMMIT whose answer was lost is found by the load's own id.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from infra.cell_encryption import KeyRing
from infra.cell_keys import key_ring_for
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.postgres.copy import copy_binary
from infra.postgres.layout import STAGING
from schemas.dataset import Role, Spec
from schemas.errors import TransientError
from tasks.clean import Binding, bind, refuse_changed_types
from tasks.keep_profile import judge, keep_profile, refuse_anomalies
from tasks.key_proof import prove_keys
from tasks.landing import add_lineage, create_landing, keep_batch
from tasks.ledger import Ledger
from tasks.manifest import Entry, is_late, open_entry, settle, write_entry
from tasks.merge import lock_dataset, merge
from tasks.prefetch import prefetch
from tasks.profile import LoadProfile, name_feed
from tasks.quarantine import Quarantine
from tasks.row_stream import RowStream
from tasks.source import RowSource
from tasks.uncontracted import bind_text, stage_text

SETTINGS = """
    SET LOCAL work_mem = '256MB';
    SET LOCAL maintenance_work_mem = '512MB';
    SET LOCAL jit = off;
    SET LOCAL default_statistics_target = 10;
"""


class Outcome(StrEnum):
    """What became of a source."""

    LOADED = "LOADED"
    UNCHANGED = "UNCHANGED"
    """It was loaded before just as it is, and left alone."""
    REFUSED = "REFUSED"
    """It does not fit its contract, or could not be read or written to the end."""
    UNREACHABLE = "UNREACHABLE"
    """An API that is down: a warning, not a failure."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be loaded, and on behalf of which run."""

    execution_id: int
    path: str
    """Where it comes from: the file's absolute path, or the endpoint's URL."""
    table: str
    """The dataset's name, or the sane name of a source without a contract."""
    spec: Spec | None
    """The contract; None: the rows go to staging as text."""
    load_id: uuid.UUID = field(default_factory=uuid.uuid4)
    """Names this load for ever: a second try with the same id never loads it twice."""

    @property
    def entry(self) -> Entry:
        """The order's line in the manifest, before it has a batch."""
        return Entry(
            execution_id=self.execution_id,
            load_id=self.load_id,
            path=self.path,
            table=self.table,
            contract_version=self.spec.contract_version if self.spec else None,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one source."""

    path: str
    table: str
    outcome: Outcome
    ledger: Ledger = field(default_factory=Ledger)
    message: str = ""
    """Why it was refused or skipped."""
    notes: tuple[str, ...] = ()
    rules: dict[str, int] = field(default_factory=dict)
    """Quarantined rows by the rule they broke first, `column: rule`."""


Progress = Callable[[int], None]
"""Told how many bytes of the source have been read so far."""


async def load_source(
    pool: Pool,
    source: RowSource,
    order: Order,
    *,
    accept_anomalies: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """Leave the source's rows in staging and the warehouse, its rejects in quarantine, its ledger.

    All of it commits together. Raises RefusedError when the source does not fit its contract,
    TransientError when PostgreSQL went away or the source changed while it was read: the same
    order can then be given again, and is carried out once. AnomalousLoadError, where the contract
    demands it of a load that is odd beside earlier ones, unless `accept_anomalies`.
    """
    keys = key_ring_for(order.spec) if order.spec else None
    try:
        async with pool.acquire() as connection:
            if keys is not None:
                await prove_keys(connection, keys)
            with source:
                async with connection.transaction():
                    await connection.execute(SETTINGS)
                    await lock_dataset(connection, order.table)
                    # Under the lock: the COMMIT of an earlier try may still be on its way.
                    if settled := await _settled(connection, order):
                        return settled
                    return await _load(
                        connection,
                        source,
                        order,
                        keys,
                        accept_anomalies=accept_anomalies,
                        on_progress=on_progress,
                    )
    except TRANSIENT as error:
        raise lost_connection(order.path, error) from error


def lost_connection(path: str, error: BaseException) -> TransientError:
    """Return what to raise when PostgreSQL went away during a load."""
    # The first line says what it was; PostgreSQL's details and hints follow it.
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return TransientError(
        f"PostgreSQL went away while {path} was being loaded ({reason}): nothing of it is visible "
        "unless all of it is, and the load can be tried again."
    )


async def find_settled(pool: Pool, order: Order) -> Report | None:
    """Return what an earlier try with this order did, if its COMMIT got through after all."""
    async with pool.acquire() as connection:
        return await _settled(connection, order)


async def _settled(connection: Connection, order: Order) -> Report | None:
    """Return what an earlier try of the order did, if its COMMIT got through after all."""
    settled = await settle(connection, order.load_id)
    if settled is None:
        return None
    ledger, notes = settled
    return Report(order.path, order.table, Outcome.LOADED, ledger, notes=notes)


async def _load(
    connection: Connection,
    source: RowSource,
    order: Order,
    keys: KeyRing | None,
    *,
    accept_anomalies: bool,
    on_progress: Progress | None,
) -> Report:
    spec = order.spec or await stage_text(connection, order.table, source.header)
    binding = (
        bind(source.header, spec, order.path) if order.spec else bind_text(source.header, spec)
    )
    entry = await open_entry(
        connection,
        order.entry,
    )
    landing = await create_landing(connection, spec, entry.batch_id)
    with Quarantine(entry, keys) as quarantine:
        stream = RowStream(source, spec, binding, quarantine, on_progress, order.path, keys)
        rows = await copy_binary(
            connection,
            STAGING,
            landing,
            stream.columns,
            prefetch(stream.encoded()),
        )
        refuse_changed_types(stream.tally, spec, order.path)
        quarantined = await quarantine.write(connection)
    await add_lineage(
        connection,
        landing,
        batch_id=entry.batch_id,
        source=order.path,
        version=source.modified_at,
    )
    if spec.role is Role.STAGING:
        merged = Ledger(inserted=rows)
    else:
        late = await is_late(connection, entry, source.modified_at)
        merged = await merge(connection, spec, landing, stream.survey, rows=rows, comes_late=late)
    ledger = merged + Ledger(
        read=source.records, quarantined=quarantined, filled=stream.tally.filled.total()
    )
    ledger.refuse_imbalance(order.path)
    staged_in = await keep_batch(connection, spec, landing, rows)
    profile = LoadProfile(
        dataset=order.table,
        feed=name_feed(order.path),
        read=ledger.read,
        duplicates=ledger.duplicates,
        quarantined=quarantined,
        columns=stream.profile.columns(stream.tally, stream.survey, rows, merged),
    )
    anomalies = await judge(connection, profile, spec)
    found = refuse_anomalies(anomalies, spec, order.path, accept=accept_anomalies)
    await keep_profile(
        connection,
        profile,
        anomalies,
        execution_id=order.execution_id,
        batch_id=entry.batch_id,
    )
    notes = (*source.notes, *_drift(binding, order), *found)
    await write_entry(connection, entry, source, staged_in, ledger, notes, stream.tally)
    rules = {_rule_name(*rule): count for rule, count in quarantine.rules.most_common()}
    return Report(order.path, order.table, Outcome.LOADED, ledger, notes=notes, rules=rules)


def _drift(binding: Binding, order: Order) -> list[str]:
    """Say how the source's columns differ from the contract's."""
    if order.spec is None:
        return ["there is no contract for it: its rows are in staging as text, and not merged"]
    notes = []
    if binding.unknown:
        listed = ", ".join(f"'{name}'" for name in binding.unknown)
        notes.append(f"columns that the contract does not know are kept in _extra: {listed}")
    if binding.absent:
        listed = ", ".join(f"'{name}'" for name in binding.absent)
        notes.append(f"columns that may be missing are missing: {listed}")
    return notes


def _rule_name(column: str | None, rule: str) -> str:
    return f"{column}: {rule}" if column else rule
