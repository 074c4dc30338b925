"""The consumer that is killed and frozen: the flow's own, without Prefect around it.

    python -m tests.chaos.stream_consumer NAME EXECUTION_ID

The settings come from the environment. NAME is what PostgreSQL knows its connections by.
"""

import asyncio
import logging
import signal
import sys

from infra.postgres.connection import SERVER_SETTINGS, Pool
from infra.settings import Settings, read_settings
from tasks.consume import Consumer
from tests.chaos.stream_events import ChaosEvents


async def consume(settings: Settings, execution_id: int) -> None:
    """Load what comes until SIGTERM."""
    run = asyncio.current_task()
    assert run is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, run.cancel)
    # Of nobody: what was read of its dead letters is what was sent.
    specs = {ChaosEvents.spec.table: ChaosEvents.spec}
    async with Pool(settings.database_url.get_secret_value(), size=4) as pool:
        try:
            await Consumer(pool, settings, specs, execution_id=execution_id).run()
        except asyncio.CancelledError:
            return


def main() -> None:
    """Be one member of the group."""
    name, execution_id = sys.argv[1:]
    SERVER_SETTINGS["application_name"] = name
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(consume(read_settings(), int(execution_id)))


if __name__ == "__main__":
    main()
