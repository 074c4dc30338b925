"""`python -m deployments.publication`: work pools and deployments, once the server answers.

One process does both, because importing Prefect is most of the time either takes.
"""

import asyncio
import sys
from time import monotonic

import httpx
from prefect.cli import app
from prefect.client.orchestration import get_client

from deployments.pools import create_pools

DEADLINE_SECONDS = 120.0


async def _prepare() -> None:
    end_time = monotonic() + DEADLINE_SECONDS
    async with get_client() as client:
        while (problem := await client.api_healthcheck()) is not None:
            if monotonic() > end_time:
                sys.exit(f"The Prefect server does not answer: {problem}.")
            await asyncio.sleep(0.2)
        await create_pools(client)


def main() -> None:
    """Leave every deployment of prefect.yaml on the server of PREFECT_API_URL."""
    try:
        asyncio.run(_prepare())
    except httpx.HTTPError as error:
        sys.exit(f"The Prefect server refused the work pools: {error}.")
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    app()


if __name__ == "__main__":
    main()
