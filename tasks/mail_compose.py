"""Makes mails of alert events: one a problem, a few an hour, and every event in exactly one."""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from infra.mail.channels import Channel
from infra.mail.document import Document, hide_private
from infra.mail.html import render_html
from infra.mail.message import MAX_SUBJECT, one_line
from infra.mail.text import render_text
from infra.postgres.connection import Connection, Pool
from infra.settings import Settings
from tasks.mail_problems import Kind, Problem, find_problems, is_due, kind_of
from tasks.mail_tell import tell_problem, tell_problems

FORGET_HOURS = 24
"""Where no channel is set up, older events are forgotten: no flood comes when one is."""
DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class Composed:
    """A mail as it was put into the outbox."""

    kind: str
    problem: str
    events: int
    document: Document


async def compose_mails(
    pool: Pool, settings: Settings, channels: Sequence[Channel], *, is_trial: bool = False
) -> list[Composed]:
    """Leave every event that is due in a mail of the outbox, or marked as of no news.

    Without a channel, only forgets what is older than a day. Events, mails and what says which
    event is in which mail commit together; where another process composes at the moment, nothing
    is done. is_trial: nothing is kept.
    """
    async with pool.acquire() as connection, _alone(connection) as is_alone:
        if not is_alone:
            return []
        # One picture of the events: those that come meanwhile are for the next time.
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            composed = await _compose(connection, settings, channels)
        except BaseException:
            await transaction.rollback()
            raise
        if is_trial:
            await transaction.rollback()
        else:
            await transaction.commit()
        return composed


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[bool]:
    # Held by the session: within the transaction, its picture would be older than the lock.
    lock = "hashtextextended('metadata.mail_outbox', 0)"
    is_alone: bool = await connection.fetchval(f"SELECT pg_try_advisory_lock({lock})")
    try:
        yield is_alone
    finally:
        if is_alone and not connection.is_closed():
            await connection.execute(f"SELECT pg_advisory_unlock({lock})")


async def _compose(
    connection: Connection, settings: Settings, channels: Sequence[Channel]
) -> list[Composed]:
    if not channels:
        await _forget(connection)
        return []
    now: dt.datetime = await connection.fetchval("SELECT clock_timestamp()")
    due: list[tuple[Problem, Kind]] = []
    quiet: list[str] = []
    for problem in await find_problems(connection):
        kind = kind_of(problem, settings.mail_success_of)
        if kind is None:
            quiet.append(problem.problem)
        elif is_due(problem, kind, now=now, mail_minutes=settings.mail_minutes):
            due.append((problem, kind))
    if quiet:
        await _mark(connection, quiet, None)
    free = max(settings.mails_per_hour - await _count_last_hour(connection), 0)
    # The last mail of the hour stands for all that wait.
    alone = due if len(due) <= free else due[: max(free - 1, 0)]
    composed = [
        await _put(
            connection,
            [problem],
            kind,
            await tell_problem(connection, problem, kind, settings),
            channels,
        )
        for problem, kind in alone
    ]
    if free and len(due) > free:
        rest = [problem for problem, _ in due[free - 1 :]]
        document = await tell_problems(connection, rest, settings)
        composed.append(await _put(connection, rest, DIGEST, document, channels))
    return composed


async def _count_last_hour(connection: Connection) -> int:
    made: int = await connection.fetchval(
        "SELECT count(DISTINCT notice) FROM metadata.mail_outbox"
        " WHERE created_at > clock_timestamp() - interval '1 hour'"
    )
    return made


async def _put(
    connection: Connection,
    problems: Sequence[Problem],
    kind: str,
    document: Document,
    channels: Sequence[Channel],
) -> Composed:
    """Leave a row a channel in the outbox, and the events in the first of them."""
    shown = hide_private(document)
    events = sum(each.events for each in problems)
    name = problems[0].problem if kind != DIGEST else DIGEST
    notice = uuid4()
    first: int | None = None
    for channel in channels:
        is_mail = channel == "mail"
        mail_id = await connection.fetchval(
            """
            INSERT INTO metadata.mail_outbox
                (problem, kind, channel, notice, subject, body_text, body_html, occurrences)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id
            """,
            name,
            kind,
            channel,
            notice,
            one_line(shown.subject, MAX_SUBJECT),
            render_text(shown, is_brief=not is_mail),
            render_html(shown) if is_mail else "",
            events,
        )
        first = mail_id if first is None else first
    await _mark(connection, [each.problem for each in problems], first)
    return Composed(kind, name, events, shown)


async def _mark(connection: Connection, problems: Sequence[str], mail_id: int | None) -> None:
    await connection.execute(
        "UPDATE metadata.alert_events SET handled_at = clock_timestamp(), mail_id = $2"
        " WHERE problem = ANY($1) AND handled_at IS NULL",
        problems,
        mail_id,
    )


async def _forget(connection: Connection) -> None:
    await connection.execute(
        "UPDATE metadata.alert_events SET handled_at = clock_timestamp()"
        " WHERE handled_at IS NULL"
        " AND happened_at < clock_timestamp() - make_interval(hours => $1)",
        FORGET_HOURS,
    )
