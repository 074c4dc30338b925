"""The stream's pipeline as its flow runs it, watchers included, but without Prefect around it.

The SLUICEWAY_ variables say where; SIGTERM ends it.
"""

import asyncio
import signal
from contextlib import suppress

from flows.stream_processing_pipeline import stream_processing_pipeline


async def main() -> None:
    """Consume until told to end."""
    run = asyncio.create_task(stream_processing_pipeline.fn())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, run.cancel)
    with suppress(asyncio.CancelledError):
        await run


if __name__ == "__main__":
    asyncio.run(main())
