"""Erases one person from every table, and leaves a record that says so and not whom.

Rows of staging and facts go. A member of a dimension stays under its facts as one of whom nothing
is known but the key: counts stay true. Rejected rows and messages about the person go too.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.cell_encryption import KeyRing
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.postgres.copy import affected
from infra.postgres.erasure_sql import ErasureSql, Statement, Traces
from infra.postgres.layout import STAGING, WAREHOUSE, Target
from schemas.dataset import Role, Spec
from schemas.errors import TransientError
from tasks.mentions import Mentions
from tasks.merge import lock_dataset, locking_place
from tasks.person_rows import describe, find_keys, find_members, find_uncontracted, trace
from tasks.rejected_search import Scope, delete_rejected, find_rejected
from tasks.subject import Subject

_RECORD = """
    INSERT INTO metadata.erasures
        (execution_id, dataset, column_name, subject_index, requested_by, counts)
    VALUES ($1, $2, $3, $4, $5, $6)
"""


@dataclass(slots=True)
class Erasure:
    """What was erased, or in a dry run would be."""

    dry_run: bool
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows by dataset (empty: those of no contract) and by table."""

    @property
    def total(self) -> int:
        """All rows."""
        return sum(sum(each.values()) for each in self.counts.values())

    def __str__(self) -> str:
        """Say it in a sentence that names nobody."""
        if not self.total:
            return "Nothing of this person is there."
        done = "would be erased" if self.dry_run else "are erased"
        return f"{self.total:,} rows about this person {done}."


@dataclass(frozen=True, slots=True)
class Request:
    """Whom to forget, who asked for it, and in which run."""

    subject: Subject
    requested_by: str
    execution_id: int | None = None
    several: bool = False
    """Whether the value may stand for several members of a dimension."""
    dry_run: bool = True


async def forget_person(
    pool: Pool, specs: Sequence[Spec], ring: KeyRing, request: Request
) -> Erasure:
    """Erase the person, dataset by dataset, each in a transaction under the dataset's lock.

    pool: as the role sluiceway_eraser. Facts go before the members that they point to, so that a
    run that was interrupted finds again what it left. Raises TerminalError where the value stands
    for several members of a dimension and the request does not allow it.
    """
    erasure = Erasure(request.dry_run)
    try:
        async with pool.acquire() as connection:
            members = await find_members(
                connection, specs, ring, request.subject, several=request.several
            )
            concerned = [
                (spec, traces)
                for spec in sorted(specs, key=locking_place)
                if (traces := trace(spec, ring, request.subject, members))
            ]
            for spec, traces in concerned:
                erasure.counts[spec.table] = await _erase(connection, spec, traces, ring, request)
            others = [spec.table for spec, _ in concerned]
            erasure.counts[""] = await _erase_elsewhere(connection, others, ring, request)
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away while a person was forgotten ({error}): run it again; what is "
            "erased stays so."
        ) from error
    return erasure


async def _erase(
    connection: Connection, spec: Spec, traces: Traces, ring: KeyRing, request: Request
) -> dict[str, int]:
    subject = request.subject
    keys = {*traces.keys, *await find_keys(connection, spec, ring, subject)}
    mentions = await describe(connection, spec, ring, subject, keys)
    # Before the lock is taken: opening them takes its time.
    rejected = await find_rejected(connection, ring, mentions, Scope([spec.table]))
    transaction = connection.transaction()
    await transaction.start()
    try:
        await lock_dataset(connection, spec.table)
        # A load may have come between.
        keys |= {*await find_keys(connection, spec, ring, subject)}
        sql = ErasureSql(spec, Traces(traces.indexes, tuple(sorted(keys)), traces.references))
        counts = await delete_rejected(connection, rejected)
        counts[f"{STAGING}.{spec.table}"] = await _execute(connection, sql.delete(merged=False))
        if spec.role is not Role.STAGING:
            is_member = spec.role is Role.DIMENSION
            statement = sql.make_anonymous() if is_member else sql.delete(merged=True)
            counts[f"{WAREHOUSE}.{Target(spec).name}"] = await _execute(connection, statement)
        counts = {place: count for place, count in counts.items() if count}
        await _record(connection, spec.table, counts, ring, request)
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.rollback() if request.dry_run else transaction.commit())
    return counts


async def _erase_elsewhere(
    connection: Connection, datasets: Sequence[str], ring: KeyRing, request: Request
) -> dict[str, int]:
    """Erase rejects of other datasets and staged rows without a contract that name the value."""
    if request.subject.is_key or request.subject.only_here:
        return {}
    value = request.subject.value
    rejected = await find_rejected(
        connection, ring, Mentions(value), Scope(datasets, is_theirs=False)
    )
    transaction = connection.transaction()
    await transaction.start()
    try:
        counts = await delete_rejected(connection, rejected)
        counts |= await find_uncontracted(connection, value, for_real=not request.dry_run)
        await _record(connection, None, counts, ring, request)
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.rollback() if request.dry_run else transaction.commit())
    return counts


async def _record(
    connection: Connection,
    dataset: str | None,
    counts: Mapping[str, int],
    ring: KeyRing,
    request: Request,
) -> None:
    """Write down what is erased; that nothing was there of the one who was named, too."""
    if not counts and dataset != request.subject.spec.table:
        return
    await connection.execute(
        _RECORD,
        request.execution_id,
        dataset,
        request.subject.column.name,
        request.subject.digests(ring)[0],
        request.requested_by,
        json.dumps(dict(counts)),
    )


async def _execute(connection: Connection, statement: Statement) -> int:
    text, given = statement
    return affected(await connection.execute(text, *given))


def tabulate(erasure: Erasure) -> list[dict[str, object]]:
    """Return a row for each table that held something of the person."""
    every = Counter(
        {
            (dataset, place): n
            for dataset, each in erasure.counts.items()
            for place, n in each.items()
        }
    )
    return [
        {"dataset": dataset or "(none)", "table": place, "rows": count}
        for (dataset, place), count in sorted(every.items())
    ]
