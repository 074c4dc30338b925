"""Sends what waits in the outbox, each channel by itself, and keeps what could not be sent."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
import structlog

from infra.mail.apprise import notify
from infra.mail.channels import Channel, addresses_of, digest_of
from infra.mail.message import build_message
from infra.mail.smtp import (
    Delivery,
    MailSession,
    MessageRefusedError,
    UnreachableError,
    open_smtp,
)
from infra.postgres.connection import Connection, Pool
from infra.redaction import redact
from infra.settings import Settings
from schemas.errors import TransientError

log = structlog.get_logger("sluiceway.mail")

KEPT_DAYS = 3
"""What could not be sent for so long is given up."""
FIRST_WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 900.0
_TONES = {"failure": "bad", "recovery": "good", "success": "good", "anomaly": "odd"}


@dataclass(slots=True)
class Outcome:
    """What a turn of sending did, in rows of the outbox."""

    sent: int = 0
    delayed: int = 0
    abandoned: int = 0
    trouble: list[str] = field(default_factory=list)
    """A sentence for each that was not sent."""


async def send_waiting(pool: Pool, settings: Settings, channels: Sequence[Channel]) -> Outcome:
    """Send what is due; returns what became of it.

    Two senders never take the same row at once. What was sent just before a crash is sent again,
    once, under the same Message-ID.
    """
    outcome = Outcome()
    ends = await asyncio.gather(
        *(_Sender(pool, settings, each, outcome).send_due() for each in channels),
        return_exceptions=True,
    )
    for each in ends:
        if each is not None:
            raise each
    return outcome


class _Sender:
    """One channel for one turn."""

    def __init__(self, pool: Pool, settings: Settings, channel: Channel, outcome: Outcome) -> None:
        self._pool = pool
        self._settings = settings
        self._channel = channel
        self._outcome = outcome
        self._session: MailSession | None = None
        self._is_away = False

    async def send_due(self) -> None:
        async with AsyncExitStack() as stack:
            while await self._send_next(stack):
                pass

    async def _send_next(self, stack: AsyncExitStack) -> bool:
        """Send one row; returns whether there may be another to send."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                """
                SELECT id, kind, notice, subject, body_text, body_html, attempts, delivered_to,
                    created_at, created_at < clock_timestamp() - make_interval(days => $2) AS is_old
                FROM metadata.mail_outbox
                WHERE channel = $1 AND sent_at IS NULL AND abandoned_at IS NULL
                    AND next_attempt_at <= clock_timestamp()
                ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
                """,
                self._channel,
                KEPT_DAYS,
            )
            if row is None:
                return False
            try:
                delivery = await self._deliver(row, stack)
            except MessageRefusedError as error:
                await self._abandon(connection, row, str(error), [])
            except UnreachableError as error:
                self._is_away = True
                await self._delay(connection, row, str(error), [])
            else:
                await self._note(connection, row, delivery)
        return not self._is_away

    async def _deliver(self, row: asyncpg.Record, stack: AsyncExitStack) -> Delivery:
        every = addresses_of(self._channel, self._settings)
        left = [each for each in every if digest_of(each) not in row["delivered_to"]]
        if self._channel == "apprise":
            return await _notify_all(row, left)
        if not left:
            return Delivery()
        if self._session is None:
            self._session = await stack.enter_async_context(open_smtp(self._settings))
        message = build_message(
            subject=row["subject"],
            text=row["body_text"],
            html=row["body_html"],
            sender=self._settings.mail_from,
            recipients=every,
            notice=row["notice"],
            created_at=row["created_at"],
        )
        return await self._session.send(message, left)

    async def _note(self, connection: Connection, row: asyncpg.Record, delivery: Delivery) -> None:
        """Write down who has it; it is sent when nobody is left who may still get it."""
        reasons = self._explain(delivery.refused | delivery.deferred)
        has_anybody = bool(delivery.accepted or row["delivered_to"])
        is_done = not delivery.deferred and (has_anybody or not delivery.refused)
        if not is_done:
            await self._delay(connection, row, reasons, delivery.accepted)
            return
        await connection.execute(
            """
            UPDATE metadata.mail_outbox
            SET sent_at = clock_timestamp(), attempts = attempts + 1, last_error = nullif($2, ''),
                delivered_to = delivered_to || $3::text[]
            WHERE id = $1
            """,
            row["id"],
            reasons,
            [digest_of(each) for each in delivery.accepted],
        )
        if delivery.refused:
            log.error("a mail did not reach everybody", mail_id=row["id"], reason=reasons)
        log.info(
            "a mail was sent",
            mail_id=row["id"],
            channel=self._channel,
            attempts=row["attempts"] + 1,
        )
        if not self._outcome.sent:
            await self._wake_others(connection, row["id"])
        self._outcome.sent += 1

    async def _wake_others(self, connection: Connection, mail_id: int) -> None:
        """Make those due at once that failed before: what was in their way seems to be gone."""
        await connection.execute(
            """
            UPDATE metadata.mail_outbox SET next_attempt_at = clock_timestamp()
            WHERE id IN (
                SELECT id FROM metadata.mail_outbox
                WHERE channel = $1 AND id <> $2 AND sent_at IS NULL AND abandoned_at IS NULL
                    AND next_attempt_at > clock_timestamp()
                FOR UPDATE SKIP LOCKED
            )
            """,
            self._channel,
            mail_id,
        )

    async def _delay(
        self, connection: Connection, row: asyncpg.Record, reason: str, accepted: Sequence[str]
    ) -> None:
        if row["is_old"]:
            await self._abandon(connection, row, reason, accepted)
            return
        wait = wait_after(row["attempts"])
        await connection.execute(
            """
            UPDATE metadata.mail_outbox
            SET attempts = attempts + 1, last_error = $2,
                delivered_to = delivered_to || $3::text[],
                next_attempt_at = clock_timestamp() + make_interval(secs => $4)
            WHERE id = $1
            """,
            row["id"],
            redact(reason),
            [digest_of(each) for each in accepted],
            wait,
        )
        # Lines of the log are no events: that mail fails is told by no mail.
        log.warning(
            "a mail waits", mail_id=row["id"], channel=self._channel, reason=reason, seconds=wait
        )
        self._outcome.delayed += 1
        self._outcome.trouble.append(reason)

    async def _abandon(
        self, connection: Connection, row: asyncpg.Record, reason: str, accepted: Sequence[str]
    ) -> None:
        await connection.execute(
            """
            UPDATE metadata.mail_outbox
            SET attempts = attempts + 1, last_error = $2, abandoned_at = clock_timestamp(),
                delivered_to = delivered_to || $3::text[]
            WHERE id = $1
            """,
            row["id"],
            redact(reason),
            [digest_of(each) for each in accepted],
        )
        log.error("a mail was given up", mail_id=row["id"], channel=self._channel, reason=reason)
        self._outcome.abandoned += 1
        self._outcome.trouble.append(reason)

    def _explain(self, reasons: dict[str, str]) -> str:
        """Return who did not get it: by their number in the setting, for addresses are private."""
        every = addresses_of(self._channel, self._settings)
        name = "SLUICEWAY_MAIL_TO" if self._channel == "mail" else "SLUICEWAY_NOTIFY_URLS"
        return " ".join(
            f"Number {every.index(each) + 1} of {name} did not get it: {said.rstrip('.')}."
            for each, said in reasons.items()
        )


def wait_after(attempts: int) -> float:
    """Return the seconds until the next attempt, after so many and one more that failed."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** min(attempts, 30), LONGEST_WAIT_SECONDS)


async def _notify_all(row: asyncpg.Record, urls: Sequence[str]) -> Delivery:
    delivery = Delivery()
    for url in urls:
        try:
            await notify(
                url,
                title=row["subject"],
                text=row["body_text"],
                tone=_TONES.get(row["kind"], "bad"),
            )
        except TransientError as error:
            delivery.deferred[url] = str(error)
        else:
            delivery.accepted.append(url)
    return delivery
