"""What waits to be told, by problem, and which kind of mail it makes, if any."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from infra.postgres.connection import Connection

Kind = Literal["failure", "health", "anomaly", "recovery", "success"]

SETTLE_SECONDS = 3.0
"""How old an event is at least: by then the last log lines of its run are in the table."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The events of one problem that are in no mail yet, counted."""

    problem: str
    """pipeline:<name>, component:<name> or dataset:<name>."""
    events: int
    failures: int
    """Events of the kind failure."""
    revived: int
    """Failures among them whose run lives, or ended well after all."""
    outages: int
    """Health events that something is bad."""
    anomalies: int
    recoveries: int
    """Events that say that all is well again."""
    successes: int
    newest: int
    """An event's id."""
    newest_trouble: int | None
    """The id of the newest event that something is wrong, revived runs not among them."""
    trouble_kind: str | None
    """That event's kind."""
    newest_good: int | None
    is_error: bool
    first_at: dt.datetime
    last_at: dt.datetime
    good_at: dt.datetime | None
    """When all was well again first, after the newest trouble or before it."""
    is_outstanding: bool
    """Whether people were told of trouble, and not yet that it is over."""
    told_at: dt.datetime | None
    """When a mail about it, other than of a success, was last made."""
    told_success_at: dt.datetime | None

    @property
    def subject(self) -> str:
        """The pipeline, component or dataset."""
        return self.problem.partition(":")[2] or self.problem


def kind_of(problem: Problem, success_of: Collection[str]) -> Kind | None:
    """Return what kind of mail the events make; None: nobody is to be told of them.

    success_of: the pipelines whose success is told.
    """
    if problem.newest_trouble is not None and problem.newest_trouble > (problem.newest_good or 0):
        match problem.trouble_kind:
            case "anomaly":
                return "anomaly"
            case "health":
                return "health"
            case _:
                return "failure"
    if problem.recoveries or problem.revived:
        had_trouble = problem.failures or problem.outages or problem.anomalies
        if had_trouble or problem.is_outstanding:
            return "recovery"
    is_wanted = problem.subject in success_of
    return "success" if is_wanted and (problem.successes or problem.recoveries) else None


def is_due(problem: Problem, kind: Kind, *, now: dt.datetime, mail_minutes: int) -> bool:
    """Tell whether a mail may be made: the last one is long enough ago, and the event has settled.

    That a pipeline succeeded holds no news of a failure up.
    """
    told = [problem.told_at, problem.told_success_at if kind == "success" else None]
    last = max((each for each in told if each is not None), default=None)
    if last is not None and now - last < dt.timedelta(minutes=mail_minutes):
        return False
    return now - problem.first_at >= dt.timedelta(seconds=SETTLE_SECONDS)


async def find_problems(connection: Connection) -> list[Problem]:
    """Return every problem that has events in no mail yet: errors first, then the oldest."""
    rows = await connection.fetch(
        """
        WITH waiting AS (
            SELECT e.id, e.problem, e.kind, e.severity, e.happened_at,
                e.kind = 'failure' AND coalesce(x.status <> 'FAILED', false) AS is_revived,
                e.kind = 'recovery' OR (e.kind = 'health' AND e.severity = 'info') AS is_good
            FROM metadata.alert_events AS e
            LEFT JOIN metadata.pipeline_executions AS x
                ON e.kind = 'failure' AND x.id = e.execution_id
            WHERE e.handled_at IS NULL
        ), counted AS (
            SELECT problem, count(*) AS events,
                count(*) FILTER (WHERE kind = 'failure') AS failures,
                count(*) FILTER (WHERE is_revived) AS revived,
                count(*) FILTER (WHERE kind = 'health' AND NOT is_good) AS outages,
                count(*) FILTER (WHERE kind = 'anomaly') AS anomalies,
                count(*) FILTER (WHERE is_good) AS recoveries,
                count(*) FILTER (WHERE kind = 'success') AS successes,
                max(id) AS newest,
                max(id) FILTER (
                    WHERE kind <> 'success' AND NOT is_good AND NOT is_revived
                ) AS newest_trouble,
                max(id) FILTER (WHERE is_good) AS newest_good,
                bool_or(severity = 'error') AS is_error,
                min(happened_at) AS first_at, max(happened_at) AS last_at,
                max(happened_at) FILTER (WHERE is_good) AS good_at
            FROM waiting GROUP BY problem
        )
        SELECT c.*, t.kind AS trouble_kind, told.handled_at AS told_at,
            told_success.handled_at AS told_success_at,
            coalesce(outstanding.was_told, false) AS is_outstanding
        FROM counted AS c
        LEFT JOIN metadata.alert_events AS t ON t.id = c.newest_trouble
        LEFT JOIN LATERAL (
            SELECT e.handled_at FROM metadata.alert_events AS e
            WHERE e.problem = c.problem AND e.mail_id IS NOT NULL AND e.kind <> 'success'
            ORDER BY e.handled_at DESC LIMIT 1
        ) AS told ON true
        LEFT JOIN LATERAL (
            SELECT e.handled_at FROM metadata.alert_events AS e
            WHERE e.problem = c.problem AND e.mail_id IS NOT NULL
            ORDER BY e.handled_at DESC LIMIT 1
        ) AS told_success ON true
        LEFT JOIN LATERAL (
            SELECT e.mail_id IS NOT NULL AND e.kind <> 'recovery' AND e.severity <> 'info'
                AS was_told
            FROM metadata.alert_events AS e
            WHERE e.problem = c.problem AND e.handled_at IS NOT NULL AND e.kind <> 'success'
            ORDER BY e.id DESC LIMIT 1
        ) AS outstanding ON true
        ORDER BY c.is_error DESC, c.newest_trouble IS NULL, c.first_at, c.problem
        """
    )
    return [Problem(**dict(row)) for row in rows]
