"""Runs of the producer wait for each other, and not for one that is gone."""

import asyncio

import pytest

from infra.postgres.connection import Pool
from schemas.errors import TransientError
from tasks import production_lock
from tasks.production_lock import hold_production


async def test_the_next_run_waits_and_one_that_is_gone_keeps_nobody_out(
    database, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = asyncio.Event()

    async def produce() -> None:
        async with hold_production(pool, "topic"):
            entered.set()

    async with Pool(database.loader_url) as other:
        async with hold_production(other, "topic"):
            waiting = asyncio.create_task(produce())
            async with hold_production(pool, "another topic"):
                assert not entered.is_set()
            monkeypatch.setattr(production_lock, "_WAIT_SECONDS", 0.2)
            with pytest.raises(TransientError, match="Another run has been producing to topic"):
                await produce()
            assert not entered.is_set()
        await asyncio.wait_for(waiting, 30)
    assert entered.is_set()
