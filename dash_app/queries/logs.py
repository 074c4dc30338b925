"""What the logs' page asks: lines, newest first, searched no further back than is fast."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import asyncpg

from dash_app.reader import Reader

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SEARCHED = 10_000
"""So many of the newest lines that an index finds are looked through for all else."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which lines are wanted: those that match all that is given."""

    level: str = "DEBUG"
    """The least."""
    pipeline: str = ""
    execution_id: int | None = None
    text: str = ""
    """Somewhere in the line, in small or capital letters of ASCII."""

    @property
    def base(self) -> "Search":
        """The part that one index finds, the rarest first: the rest is looked for among those."""
        if self.execution_id is not None:
            return Search(execution_id=self.execution_id)
        if self.level in {"WARNING", "ERROR", "CRITICAL"}:
            return Search(level="WARNING" if self.level == "WARNING" else "ERROR")
        return Search(pipeline=self.pipeline)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a search looks."""

    lines: int
    oldest_at: dt.datetime | None
    is_all: bool
    """Whether there is nothing older to look through."""


_COLUMNS = "id, logged_at, level, pipeline_name, execution_id, dataset, event, fields"
_ALL = f"SELECT {_COLUMNS} FROM metadata.pipeline_logs"  # noqa: S608 - a constant of this module


def _newest_of(*levels: str) -> str:
    # Each level has a window of its own: the index on levels finds just that. Over a plain UNION
    # the planner may sort all lines of these levels.
    return " UNION ALL ".join(
        f"({_ALL} WHERE level = '{each}' AND $1::text IS NOT NULL AND logged_at <= $2"
        " ORDER BY logged_at DESC, id DESC LIMIT $3)"
        for each in levels
    )


# What one index finds, newest first.
_BASES = {
    "run": f"{_ALL} WHERE execution_id = $1::bigint",
    "pipeline": f"{_ALL} WHERE pipeline_name = $1::text",
    "all": f"{_ALL} WHERE $1::text IS NOT NULL",
    "worse": _newest_of("WARNING", "ERROR", "CRITICAL"),
    "worst": _newest_of("ERROR", "CRITICAL"),
}
_FIND = {
    name: f"""
    SELECT id, logged_at, level, pipeline_name, execution_id, dataset, left(event, 500) AS event,
        (SELECT left(string_agg(key || '=' || left(value, 200), ', '), 1000)
         FROM jsonb_each_text(fields)) AS fields
    FROM (
        SELECT {_COLUMNS} FROM (
            SELECT {_COLUMNS} FROM ({base}) AS every WHERE logged_at <= $2
            ORDER BY logged_at DESC, id DESC LIMIT $3
        ) AS searched
        WHERE level = ANY($4) AND ($5 = '' OR pipeline_name = $5)
            AND ($6 = '' OR event COLLATE "C" ILIKE $6 OR fields::text COLLATE "C" ILIKE $6)
        ORDER BY logged_at DESC, id DESC OFFSET $7 LIMIT $8
    ) AS page ORDER BY logged_at DESC, id DESC
    """  # noqa: S608 - constants of this module
    for name, base in _BASES.items()
}
_REACH = {
    name: f"""
    SELECT count(*) AS lines, min(logged_at) AS oldest_at FROM (
        SELECT logged_at FROM ({base}) AS every WHERE logged_at <= $2
        ORDER BY logged_at DESC LIMIT $3
    ) AS searched
    """  # noqa: S608 - constants of this module
    for name, base in _BASES.items()
}


async def _fetch(reader: Reader, query: str, *given: Any) -> list[asyncpg.Record]:
    """Return the rows, by a plan that is made for these values and goes over the indexes.

    Told that a page is as cheap to fetch from anywhere, PostgreSQL does not read lines of all
    pipelines to find those of one.
    """
    async with reader.connection() as connection, connection.transaction(readonly=True):
        await connection.execute(
            "SET LOCAL random_page_cost = 1.1; SET LOCAL plan_cache_mode = force_custom_plan; "
            "SET LOCAL max_parallel_workers_per_gather = 0"
        )
        found: list[asyncpg.Record] = await connection.fetch(query, *given)
        return found


async def find_lines(
    reader: Reader, search: Search, *, until: dt.datetime, first: int, count: int
) -> list[asyncpg.Record]:
    """Return a page of the lines that match and were logged until then, newest first."""
    base, given = _base_of(search)
    return await _fetch(
        reader,
        _FIND[base],
        given,
        until,
        # Where the index finds just what is wanted, nothing is looked through.
        first + count if search == search.base else SEARCHED,
        LEVELS[LEVELS.index(search.level) :],
        search.pipeline,
        escape(search.text),
        first,
        count,
    )


async def find_reach(reader: Reader, search: Search, until: dt.datetime) -> Reach:
    """Return how far back `find_lines` looks for this."""
    base, given = _base_of(search)
    [row] = await _fetch(reader, _REACH[base], given, until, SEARCHED)
    return Reach(row["lines"], row["oldest_at"], is_all=row["lines"] < SEARCHED)


async def find_line(reader: Reader, line_id: int) -> asyncpg.Record | None:
    """Return a line in full, if it is still kept."""
    return await reader.fetchrow(
        """
        SELECT id, logged_at, level, pipeline_name, execution_id, dataset, event,
            fields::text AS fields
        FROM metadata.pipeline_logs WHERE id = $1
        """,
        line_id,
    )


async def find_pipelines(reader: Reader) -> list[str]:
    """Return the names of all that has logged, a hundred at most."""
    # A skip scan: from one name to the next, over the index.
    rows = await reader.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT pipeline_name FROM metadata.pipeline_logs ORDER BY pipeline_name LIMIT 1)
            UNION ALL
            SELECT (SELECT l.pipeline_name FROM metadata.pipeline_logs AS l
                    WHERE l.pipeline_name > named.pipeline_name ORDER BY 1 LIMIT 1)
            FROM named WHERE named.pipeline_name IS NOT NULL
        )
        SELECT pipeline_name FROM named WHERE pipeline_name IS NOT NULL LIMIT 100
        """
    )
    return [row["pipeline_name"] for row in rows]


def escape(text: str) -> str:
    """Return the pattern that finds the text anywhere, whatever it holds; nothing for nothing."""
    if not text:
        return ""
    # PostgreSQL's texts have no NUL: what has one is found in none.
    plain = (
        text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\0", "\\\\0")
    )
    return f"%{plain}%"


def _base_of(search: Search) -> tuple[str, int | str]:
    base = search.base
    if base.execution_id is not None:
        return "run", base.execution_id
    if base.level == "DEBUG":
        return ("pipeline", base.pipeline) if base.pipeline else ("all", "")
    return ("worse" if base.level == "WARNING" else "worst"), ""
