"""What the Prefect server wants of this flow run: asked by the run itself.

The worker is told as well, and ends a run that is cancelled. But it hears nothing more once the
server was away for some minutes, and a run whose worker was killed has nobody who could.
"""

import asyncio
from uuid import UUID

import structlog
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.own_flow_run")

_ASK_SECONDS = 10.0


class UnwantedError(SluicewayError):
    """The Prefect server has this run as cancelled or ended: it is to stop."""


async def wait_until_unwanted(flow_run_id: UUID | None) -> UnwantedError:
    """Return once the server has the run as cancelled or ended; never while it is away.

    A run without a server (None) is always wanted.
    """
    while True:
        await asyncio.sleep(_ASK_SECONDS)
        state = await _ask(flow_run_id) if flow_run_id else None
        if state is not None and (state.is_cancelling() or state.is_final()):
            return UnwantedError(f"The Prefect server has this run as {state.name}: it ends.")


async def _ask(flow_run_id: UUID) -> State | None:
    """Return the run's state; None where the server does not say."""
    try:
        async with asyncio.timeout(_ASK_SECONDS), get_client() as client:
            return (await client.read_flow_run(flow_run_id)).state
    except Exception as error:  # noqa: BLE001 - whatever ails the server must not end the run
        log.debug("the Prefect server does not say what it wants", reason=str(error))
        return None
