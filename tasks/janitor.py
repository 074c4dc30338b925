"""One round of the janitor: dead runs end as FAILED, in Prefect too, and late ones are one.

PostgreSQL alone decides who is dead. The Prefect server is told where there is one; it being away
is no trouble for the rest, and it is told in a later round.
"""

import asyncio
from dataclasses import dataclass

import httpx
import structlog
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from infra.postgres.connection import Connection, connect
from infra.redaction import redact
from infra.settings import Settings
from schemas.errors import SettingError
from tasks.database import find_database_url
from tasks.late_runs import cancel_late_runs
from tasks.mark_dead_runs import PATIENCE_SECONDS, mark_dead_runs
from tasks.prefect_runs import be_the_only_one
from tasks.tell_prefect import tell_prefect

log = structlog.get_logger("sluiceway.janitor")

CONNECT_SECONDS = 5.0
PREFECT_SECONDS = 20.0
"""How long one kind of act in Prefect may take in a round."""


@dataclass(frozen=True, slots=True)
class Round:
    """How many runs something was done to."""

    marked: int
    told: int
    cancelled: int

    def __str__(self) -> str:
        """Return it as a sentence."""
        return (
            f"Dead runs marked FAILED: {self.marked}; said to be Crashed in Prefect: {self.told}; "
            f"late runs cancelled: {self.cancelled}."
        )


class Janitor:
    """Makes rounds; what does not answer is told once, and asked again in the next one."""

    def __init__(self, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Ask nobody yet."""
        self._settings = settings
        self._patience_seconds = patience_seconds
        self._url = ""
        self._trouble = ""

    async def find_url(self) -> str:
        """Return the database's address, asked for once: a Prefect block may hold it."""
        self._url = self._url or await find_database_url(self._settings)
        return self._url

    async def make_round(self) -> Round:
        """Look at every run once, and do what is to be done; returns how much that was.

        Raises TransientError where PostgreSQL is away.
        """
        try:
            connection = await connect(await self.find_url(), wait_seconds=CONNECT_SECONDS)
        except SettingError:
            self._url = ""
            raise
        try:
            dead = await mark_dead_runs(connection, patience_seconds=self._patience_seconds)
            told, cancelled = await self._act_in_prefect(connection)
        finally:
            connection.terminate()
        return Round(len(dead), told, cancelled)

    async def _act_in_prefect(self, connection: Connection) -> tuple[int, int]:
        # Without an address, Prefect's client would start a server of its own.
        if not PREFECT_API_URL.value():
            return 0, 0
        done = [0, 0]
        try:
            # A retry within the client would hold up the next round.
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                async with be_the_only_one(connection) as is_ours, get_client() as client:
                    for place, act in enumerate((tell_prefect, cancel_late_runs)):
                        if is_ours:
                            async with asyncio.timeout(PREFECT_SECONDS):
                                done[place] = len(await act(connection, client))
        except (httpx.HTTPError, ObjectNotFound, TimeoutError) as error:
            self._tell(redact(str(error)) or type(error).__name__)
        else:
            self._tell("")
        return done[0], done[1]

    def _tell(self, trouble: str) -> None:
        """Log what is in the way once, and once that it is gone."""
        if trouble and trouble != self._trouble:
            log.warning("the Prefect server does not answer, and is asked again", reason=trouble)
        if self._trouble and not trouble:
            log.info("the Prefect server answers again")
        self._trouble = trouble
