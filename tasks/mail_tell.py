"""What a mail about a problem says: asks PostgreSQL for what that kind of mail tells."""

from collections.abc import Sequence

import structlog

from infra.mail.document import Document
from infra.postgres.connection import TRANSIENT, Connection
from infra.settings import Settings
from tasks.mail_digest import tell_digest, tell_plainly
from tasks.mail_documents import tell_failure, tell_recovery, tell_success
from tasks.mail_events import (
    count_of_day,
    find_breakdown,
    find_event,
    find_last_events,
    find_reasons,
    find_sentences,
    since_of,
)
from tasks.mail_findings import tell_anomalies, tell_outage
from tasks.mail_problems import Kind, Problem
from tasks.mail_runs import find_run

log = structlog.get_logger("sluiceway.mail")

_DIGEST_PROBLEMS = 50


async def tell_problem(
    connection: Connection, problem: Problem, kind: Kind, settings: Settings
) -> Document:
    """Return the mail about a problem; a bare one where what there is to say cannot be read.

    Otherwise one event that nobody foresaw would keep all others from being told.
    """
    try:
        async with connection.transaction():
            return await _tell(connection, problem, kind, settings)
    except TRANSIENT:
        raise
    except Exception:
        log.exception("a mail could not say everything", problem=problem.problem)
        return tell_plainly(problem, settings=settings)


async def _tell(
    connection: Connection, problem: Problem, kind: Kind, settings: Settings
) -> Document:
    name = problem.problem
    newest = await find_event(connection, problem.newest_trouble or problem.newest)
    of_day = (await count_of_day(connection, [name])).get(name, 0)
    match kind:
        case "failure":
            run = await find_run(connection, newest.execution_id)
            reasons = await find_reasons(connection, name)
            return tell_failure(
                problem, newest, run, reasons=reasons, of_day=of_day, settings=settings
            )
        case "anomaly":
            events = await find_last_events(connection, name, ["anomaly"])
            return tell_anomalies(problem, events, of_day=of_day, settings=settings)
        case "health":
            since = since_of(newest) or newest.happened_at
            return tell_outage(problem, newest, since=since, of_day=of_day, settings=settings)
        case "recovery":
            good = await find_event(connection, problem.newest_good or problem.newest)
            first, failures = await find_breakdown(connection, name)
            return tell_recovery(
                problem,
                await find_run(connection, good.execution_id),
                since=since_of(good) or first,
                failures=failures,
                reasons=await find_reasons(connection, name),
                settings=settings,
            )
        case "success":
            last = await find_event(connection, problem.newest)
            return tell_success(
                problem, await find_run(connection, last.execution_id), settings=settings
            )


async def tell_problems(
    connection: Connection, problems: Sequence[Problem], settings: Settings
) -> Document:
    """Return one mail about them all: the first fifty by name, of the rest the count."""
    shown, left_out = problems[:_DIGEST_PROBLEMS], problems[_DIGEST_PROBLEMS:]
    ids = [each.newest_trouble or each.newest for each in shown]
    sentences = await find_sentences(connection, ids)
    of_day = await count_of_day(connection, [each.problem for each in shown])
    return tell_digest(
        shown,
        [sentences[each] for each in ids],
        [of_day.get(each.problem, 0) for each in shown],
        left_out=left_out,
        settings=settings,
    )
