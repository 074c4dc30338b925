"""Loads what an API endpoint answers, unless it answered just that before."""

import asyncio
from dataclasses import replace

from infra.postgres.connection import Pool
from tasks.extract_api import Fetched
from tasks.extract_frame import from_records
from tasks.load import Order, Outcome, Report, load_source
from tasks.load_file import noting_refusal
from tasks.manifest import find_loaded, note_untouched


async def load_fetched(
    pool: Pool,
    fetched: Fetched,
    order: Order,
    *,
    force: bool = False,
    accept_anomalies: bool = False,
) -> Report:
    """Leave an endpoint's records in the database, once; an answer with nothing new stays alone.

    accept_anomalies: load them even if their contract refuses so odd a load.
    """

    async def load() -> Report:
        async with pool.acquire() as connection:
            before = await find_loaded(connection, order.path)
            if (
                before is not None
                and not force
                and (before.sha256, before.contract_version)
                == (fetched.sha256, order.entry.contract_version)
            ):
                message = f"the answer is that of {before.recorded_at:%Y-%m-%d %H:%M} UTC"
                await note_untouched(connection, order.entry, Outcome.UNCHANGED, message, None)
                return Report(order.path, order.table, Outcome.UNCHANGED, message=message)
        source = await asyncio.to_thread(
            from_records,
            fetched.records,
            modified_at=fetched.fetched_at,
            sha256=fetched.sha256,
            header=order.spec.names if order.spec else (),
        )
        report = await load_source(pool, source, order, accept_anomalies=accept_anomalies)
        return replace(report, notes=(*fetched.notes, *report.notes))

    return await noting_refusal(pool, order, load)
