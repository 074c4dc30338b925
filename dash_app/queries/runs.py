"""What the page of runs asks: the pipelines, their last runs, and runs by filters."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import asyncpg

from dash_app.reader import Reader

PIPELINES = 40
"""As many are shown as a grid; there may be more."""
LAST_RUNS = 30
COUNTED_RUNS = 10_000
"""Matching runs are counted no further, and sorted no further by what no index is sorted by."""
SEARCHED_RUNS = 10_000
"""Text is looked for in the errors of as many failed runs, the newest."""

STATES = ("RUNNING", "SUCCESS", "FAILED")
_IN_STATE = {state: f"status = '{state}'" for state in STATES}
_SORTED_BY = {
    "start": "start_time",
    "duration": "coalesce(end_time, clock_timestamp()) - start_time",
    "rows": "records_processed",
}
SORTS = tuple(_SORTED_BY)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs; what is empty filters nothing."""

    as_of: dt.datetime
    """No run that began later."""
    pipeline: str = ""
    states: frozenset[str] = frozenset()
    error: str = ""
    """Text in the error, in any case; only failed runs have one."""
    since: dt.datetime | None = None
    before: dt.datetime | None = None


async def find_pipelines(reader: Reader) -> list[str]:
    """Return the names of all pipelines that ever ran, a thousand at most."""
    # A skip scan: from one name to the next, over the index.
    rows = await reader.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT pipeline_name FROM metadata.pipeline_executions ORDER BY pipeline_name LIMIT 1)
            UNION ALL
            SELECT (SELECT e.pipeline_name FROM metadata.pipeline_executions AS e
                    WHERE e.pipeline_name > named.pipeline_name ORDER BY 1 LIMIT 1)
            FROM named WHERE named.pipeline_name IS NOT NULL
        )
        SELECT pipeline_name FROM named WHERE pipeline_name IS NOT NULL LIMIT 1000
        """
    )
    return [row["pipeline_name"] for row in rows]


async def find_last_runs(reader: Reader, pipelines: list[str]) -> list[asyncpg.Record]:
    """Return the last runs of each pipeline, the newest first."""
    # A range and an order by the name, though it is one name: only the index on both serves that.
    # With `=` the planner may walk all runs by their start, to find those of a rare pipeline.
    return await reader.fetch(
        """
        SELECT last.* FROM unnest($1::text[]) WITH ORDINALITY AS given (pipeline_name, place),
        LATERAL (
            SELECT id, pipeline_name, status, start_time, end_time
            FROM metadata.pipeline_executions AS e
            WHERE e.pipeline_name BETWEEN given.pipeline_name AND given.pipeline_name
            ORDER BY e.pipeline_name, e.start_time DESC LIMIT $2
        ) AS last
        ORDER BY given.place, last.start_time DESC, last.id DESC
        """,
        pipelines,
        LAST_RUNS,
    )


async def find_runs(
    reader: Reader,
    wanted: Wanted,
    *,
    sort: str,
    is_descending: bool,
    start: int,
    end: int,
) -> list[asyncpg.Record]:
    """Return the runs from place start up to end.

    Sorted by start in either direction; by another of SORTS among the newest COUNTED_RUNS.
    """
    by_start = sort == "start"
    way = "DESC" if is_descending else "ASC"
    matching, given = _match(
        wanted,
        columns="id, start_time, end_time, records_processed",
        way=way if by_start else "DESC",
        most=end if by_start else COUNTED_RUNS,
    )
    given += [end - start, start]
    order = f"{_SORTED_BY[sort]} {way}, id {way}"
    # The errors are long: they are fetched for the rows of this page alone.
    return await reader.fetch(
        f"""
        SELECT e.id, e.pipeline_name, e.status, e.start_time, e.end_time, e.records_processed,
            left(split_part(e.error_message, E'\\n', 1), 300) AS error
        FROM (
            SELECT id, row_number() OVER (ORDER BY {order}) AS place FROM ({matching}) AS matching
            ORDER BY {order} LIMIT ${len(given) - 1} OFFSET ${len(given)}
        ) AS page
        JOIN metadata.pipeline_executions AS e USING (id)
        ORDER BY page.place
        """,  # noqa: S608 - put together from this module's constants; values go as parameters
        *given,
    )


async def count_runs(reader: Reader, wanted: Wanted) -> int:
    """Return how many runs match, counting to COUNTED_RUNS."""
    matching, given = _match(wanted, columns="start_time", way="DESC", most=COUNTED_RUNS, tie="")
    found: int = await reader.fetchval(
        f"SELECT least(count(*), {COUNTED_RUNS}) FROM ({matching}) AS matching",  # noqa: S608 - as above
        *given,
    )
    return found


def _match(
    wanted: Wanted, *, columns: str, way: str, most: int, tie: str = "id"
) -> tuple[str, list[Any]]:
    """Return a query of the first `most` runs that match, and its parameters.

    Each state is asked for by itself: failed runs have indexes of their own, and the newest of
    each state are enough to tell the newest of all. tie: a column that decides where runs began
    at the same moment; without one, an index alone can answer.
    """
    given: list[Any] = [wanted.as_of]
    conditions = ["start_time <= $1"]

    def add(condition: str, value: Any) -> None:
        given.append(value)
        conditions.append(condition.format(f"${len(given)}"))

    if wanted.since is not None:
        add("start_time >= {}", wanted.since)
    if wanted.before is not None:
        add("start_time < {}", wanted.before)
    given.append(most)
    end = f"{f', {tie} {way}' if tie else ''} LIMIT ${len(given)}"
    name = ""
    if wanted.pipeline:
        given.append(wanted.pipeline)
        name = f"${len(given)}"
    if wanted.error:
        given.append(wanted.error)
        matching = _search(wanted, conditions, name, text=f"${len(given)}")
        return f"SELECT {columns} FROM ({matching}) AS found ORDER BY start_time {way}{end}", given  # noqa: S608 - as above
    states = [each for each in STATES if each in wanted.states]
    query = " UNION ALL ".join(
        f"""(
        SELECT {columns} FROM metadata.pipeline_executions
        {_filter_and_order(conditions, state, name, way)}{end}
        )"""  # noqa: S608 - as above
        for state in (states if 0 < len(states) < len(STATES) else [""])
    )
    return query, given


def _filter_and_order(conditions: list[str], state: str, name: str, way: str) -> str:
    """Return the WHERE and the ORDER BY of runs in a state, each or none, of a pipeline, or any."""
    conditions = [*conditions, *([_IN_STATE[state]] if state else [])]
    order = f"start_time {way}"
    if name and state == "FAILED":
        conditions.append(f"pipeline_name = {name}")
    elif name:
        # As a range, for the reason given above. In this index the newest come first.
        conditions.append(f"pipeline_name BETWEEN {name} AND {name}")
        order = f"pipeline_name {'ASC' if way == 'DESC' else 'DESC'}, {order}"
    return f"WHERE {' AND '.join(conditions)} ORDER BY {order}"


def _search(wanted: Wanted, conditions: list[str], name: str, *, text: str) -> str:
    """Return a query of the newest failed runs whose error has the text in it."""
    is_asked = "true" if not wanted.states or "FAILED" in wanted.states else "false"
    return f"""
        SELECT id, start_time, end_time, records_processed FROM (
            SELECT id, start_time, end_time, records_processed, error_message
            FROM metadata.pipeline_executions
            {_filter_and_order([*conditions, is_asked], "FAILED", name, "DESC")}
            LIMIT {SEARCHED_RUNS}
        ) AS failed
        WHERE strpos(lower(error_message), lower({text})) > 0
    """  # noqa: S608 - as above
