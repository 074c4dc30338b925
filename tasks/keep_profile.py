"""Judges a load by its profile, keeps the profile for the next ones, and refuses what must not be.

What goes wrong in here is logged and costs no load: each step has a savepoint of its own.
"""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from infra.postgres.connection import Connection
from schemas.dataset import Spec
from schemas.errors import RefusedError
from tasks.anomalies import Anomaly, write_anomalies
from tasks.judge_load import judge_load
from tasks.profile import LoadProfile, write_profile

log = structlog.get_logger("sluiceway.quality")


class AnomalousLoadError(RefusedError):
    """A load is not what its feed's history leads to expect, and its contract refuses such loads.

    `anomalies` are all that were found: they outlive the load, which is rolled back.
    """

    def __init__(self, message: str, anomalies: Sequence[Anomaly]) -> None:
        """Keep what was found beside the sentence, for whoever writes it down."""
        super().__init__(message)
        self.anomalies = anomalies


async def judge(
    connection: Connection, profile: LoadProfile, spec: Spec, *, at: dt.datetime | None = None
) -> list[Anomaly]:
    """Return what is odd about a load whose profile is not written yet; at: when it came."""
    async with _set_apart(connection, profile.dataset, "a load could not be judged"):
        return await judge_load(connection, profile, spec, at=at)
    return []


def refuse_anomalies(
    anomalies: Sequence[Anomaly], spec: Spec, source: str, *, accept: bool
) -> list[str]:
    """Return a note for each anomaly; raises AnomalousLoadError where the contract demands it.

    accept: a person has looked at the source and wants it as it is.
    """
    serious = [each for each in anomalies if each.severity == "error"]
    if serious and spec.refuse_anomalies and not accept:
        more = f" (and {len(serious) - 1} more)" if len(serious) > 1 else ""
        raise AnomalousLoadError(
            f"{source} was not loaded: {serious[0].summary.rstrip('. ')}{more}, and the contract "
            f"{spec.name} refuses such loads: mend the source, or, if it is right as it is, load "
            "it with --accept-anomalies.",
            anomalies,
        )
    accepted = " accepted" if serious and spec.refuse_anomalies else ""
    return [
        f"anomaly{accepted if each in serious else ''} ({each.severity}): {each.summary}"
        for each in anomalies
    ]


async def keep_profile(
    connection: Connection,
    profile: LoadProfile,
    anomalies: Sequence[Anomaly],
    *,
    execution_id: int,
    batch_id: int | None = None,
    day: dt.date | None = None,
    at: dt.datetime | None = None,
) -> None:
    """Leave the profile and what was found by it in the caller's transaction.

    day: the UTC day of the stream that the profile is of; at: when it came (by default now).
    """
    async with _set_apart(connection, profile.dataset, "a load's profile could not be written"):
        await write_profile(
            connection, profile, execution_id=execution_id, batch_id=batch_id, day=day, at=at
        )
    await keep_anomalies(connection, anomalies, execution_id=execution_id, batch_id=batch_id)


async def keep_anomalies(
    connection: Connection,
    anomalies: Sequence[Anomaly],
    *,
    execution_id: int,
    batch_id: int | None,
    was_refused: bool = False,
) -> None:
    """Leave what was found in the caller's transaction, and tell people of it."""
    if not anomalies:
        return
    async with _set_apart(connection, anomalies[0].dataset, "anomalies could not be written"):
        await write_anomalies(
            connection,
            anomalies,
            execution_id=execution_id,
            batch_id=batch_id,
            was_refused=was_refused,
        )


@asynccontextmanager
async def _set_apart(connection: Connection, dataset: str, failure: str) -> AsyncIterator[None]:
    """Undo and log what fails within; the transaction around it goes on as if it had not been."""
    try:
        async with connection.transaction():
            yield
    except Exception as error:
        if connection.is_closed():
            # PostgreSQL went away: the load is lost too, and is tried again.
            raise
        log.exception(failure, dataset=dataset, reason=str(error))
