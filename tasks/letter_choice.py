"""Which dead letters a replay takes, and what there is of them before anything is done."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import asyncpg

from infra.postgres.connection import Connection
from schemas.errors import TerminalError
from tasks.sealing import VALUE_BYTES, has_key

MAX_ATTEMPTS = 3
PREFIX_MARK = "*"
KEYLESS = (
    "are left alone: they are encrypted with a key that is not set, so set that one too until "
    "`rotate_keys` has run"
)

# Once its message is in the warehouse, or has come too late for it, a letter is done with.
_MATCHES = """
    (outcome IS NULL OR outcome = 'failed')
    AND ($1::text IS NULL OR reason = $1)
    AND ($2::text IS NULL OR starts_with(reason, $2))
    AND ($3::text IS NULL OR source = $3)
    AND ($4::timestamptz IS NULL OR buried_at >= $4)
    AND ($5::timestamptz IS NULL OR buried_at < $5)
    AND ($6::text IS NULL OR consumer_group = $6)
    AND ($7::bigint[] IS NULL OR id = ANY($7))
    AND id <= $8 AND (replayed_at IS NULL OR replayed_at < $9)
"""
_FITS = f"attempts < $10 AND {has_key('$11')}"
_COUNT = f"""
WITH matching AS (
    SELECT id, source, reason, attempts, buried_at, {has_key("$11")} AS has_key
    FROM metadata.dead_letters WHERE {_MATCHES}
), chosen AS (
    SELECT id FROM matching WHERE attempts < $10 AND has_key ORDER BY id LIMIT $12
)
SELECT m.source, m.reason, count(c.id) AS letters,
    count(*) FILTER (WHERE m.attempts >= $10) AS worn_out,
    count(*) FILTER (WHERE m.attempts < $10 AND NOT m.has_key) AS keyless,
    min(m.buried_at) FILTER (WHERE c.id IS NOT NULL) AS first_buried_at,
    max(m.buried_at) FILTER (WHERE c.id IS NOT NULL) AS last_buried_at
FROM matching AS m LEFT JOIN chosen AS c USING (id)
GROUP BY m.source, m.reason
HAVING count(c.id) > 0 OR count(*) FILTER (WHERE m.attempts >= $10 OR NOT m.has_key) > 0
ORDER BY letters DESC, m.source, m.reason
"""  # noqa: S608 - constants of this module

_LOCK = f"""
SELECT id, {VALUE_BYTES} AS size_bytes
FROM metadata.dead_letters
WHERE {_MATCHES} AND {_FITS} AND id > $12
ORDER BY id LIMIT $13
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants of this module

_COUNT_LEFT = f"SELECT count(*) FROM metadata.dead_letters WHERE {_MATCHES} AND {_FITS}"  # noqa: S608 - constants of this module

_REASONS = """
SELECT reason, count(*) AS letters FROM metadata.dead_letters
WHERE outcome IS NULL OR outcome = 'failed'
GROUP BY reason ORDER BY letters DESC, reason LIMIT 10
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are wanted: those that match all that is given."""

    reason: str | None = None
    """A reason as it stands in the table, or its beginning and a `*`."""
    source: str | None = None
    since: dt.datetime | None = None
    """Buried at this time or later; with a zone."""
    until: dt.datetime | None = None
    """Buried before this time."""
    group: str | None = None
    ids: tuple[int, ...] = ()
    limit: int | None = None
    """So many at most, the oldest."""
    max_attempts: int = MAX_ATTEMPTS
    """A letter that was replayed so often is left alone."""

    def __post_init__(self) -> None:
        """Raise TerminalError for what can match no letter."""
        if self.max_attempts < 1:
            raise TerminalError("The attempts of a letter are capped at 1 or more.")
        if self.limit is not None and self.limit < 1:
            raise TerminalError("The limit of a replay is 1 letter or more.")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise TerminalError(
                f"No letter was buried since {self.since:%Y-%m-%d %H:%M:%S} and before "
                f"{self.until:%Y-%m-%d %H:%M:%S}: give a later end."
            )


@dataclass(frozen=True, slots=True)
class LetterCount:
    """Letters of one source that were buried for one reason."""

    source: str | None
    reason: str
    letters: int
    """To be replayed."""
    worn_out: int
    """Replayed as often as allowed: left alone."""
    keyless: int
    """Encrypted with a key that is not set: left alone."""
    first_buried_at: dt.datetime | None
    last_buried_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A choice at one moment: letters buried or replayed by others from then on are not in it."""

    choice: Choice
    key_ids: tuple[bytes, ...]
    """Of the keys that letters can be read with."""
    last_id: int
    planned_at: dt.datetime
    counts: tuple[LetterCount, ...]
    other_reasons: dict[str, int] = field(default_factory=dict)
    """Letters by reason, looked up where none matches."""

    @property
    def letters(self) -> int:
        """How many are to be replayed."""
        return sum(each.letters for each in self.counts)

    @property
    def worn_out(self) -> int:
        """How many match, and were replayed as often as allowed."""
        return sum(each.worn_out for each in self.counts)

    @property
    def keyless(self) -> int:
        """How many match, and are encrypted with a key that is not set."""
        return sum(each.keyless for each in self.counts)

    def __str__(self) -> str:
        """Say it in a sentence."""
        if self.counts:
            left = (
                f"; {self.worn_out} more were replayed {self.choice.max_attempts} times or more "
                "and are left alone"
                if self.worn_out
                else ""
            )
            if self.keyless:
                left += f"; {self.keyless} more {KEYLESS}"
            return f"{self.letters} dead letters match{left}."
        if not self.other_reasons:
            return "No dead letter waits to be replayed."
        shown = ", ".join(f"{number} of '{name}'" for name, number in self.other_reasons.items())
        return f"No dead letter matches; there are {shown}."


async def plan_replay(
    connection: Connection, choice: Choice, key_ids: Sequence[bytes] = ()
) -> Plan:
    """Return what the choice matches now; key_ids: of the keys that letters can be read with."""
    [now] = await connection.fetch(
        "SELECT coalesce(max(id), 0) AS last_id, clock_timestamp() AS planned_at"
        " FROM metadata.dead_letters"
    )
    plan = Plan(choice, tuple(key_ids), now["last_id"], now["planned_at"], ())
    rows = await connection.fetch(_COUNT, *_arguments(plan), choice.limit)
    counts = tuple(LetterCount(**dict(row)) for row in rows)
    others = [] if counts else await connection.fetch(_REASONS)
    by_reason = {row["reason"]: row["letters"] for row in others}
    return replace(plan, counts=counts, other_reasons=by_reason)


async def count_left(connection: Connection, plan: Plan) -> int:
    """Return how many letters of the plan nobody has replayed since it was made."""
    count: int = await connection.fetchval(_COUNT_LEFT, *_arguments(plan))
    return count


async def lock_letters(
    connection: Connection, plan: Plan, *, after_id: int, limit: int
) -> Sequence[asyncpg.Record]:
    """Lock the plan's next letters until the transaction ends; returns id and size_bytes of each.

    What somebody else holds is passed over, and so is what was replayed since the plan was made.
    """
    rows: list[asyncpg.Record] = await connection.fetch(_LOCK, *_arguments(plan), after_id, limit)
    return rows


def _arguments(plan: Plan) -> tuple[object, ...]:
    choice = plan.choice
    is_prefix = choice.reason is not None and choice.reason.endswith(PREFIX_MARK)
    return (
        None if is_prefix else choice.reason,
        choice.reason.removesuffix(PREFIX_MARK) if choice.reason and is_prefix else None,
        choice.source,
        choice.since,
        choice.until,
        choice.group,
        list(choice.ids) or None,
        plan.last_id,
        plan.planned_at,
        choice.max_attempts,
        list(plan.key_ids),
    )
