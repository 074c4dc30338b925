"""`python -m deployments.publication`: all that a Prefect server needs, once it answers.

Work pools with their limits, the database's block, variables, the deployments of prefect.yaml, and
automations. Everything is compared first: what is as it should be is not touched.
"""

import asyncio
import json
import sys
from time import monotonic

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from deployments.automations import apply_automations
from deployments.blocks import save_database_block
from deployments.flow_deployments import apply_deployments, read_declared
from deployments.pools import create_pools
from deployments.variables import create_variables
from infra.endpoints import show_url
from infra.settings import Settings, read_settings
from schemas.errors import SettingError, SluicewayError, TransientError
from tasks.prefect_api import require_prefect_address

DEADLINE_SECONDS = 120.0
_REFUSED = frozenset({401, 403})


async def publish(settings: Settings, *, deadline_seconds: float = 0.0) -> list[str]:
    """Leave what the platform needs on the server of PREFECT_API_URL; returns what was changed.

    deadline_seconds: how long to wait for a server that does not answer yet.
    Raises TransientError where it does not answer, SettingError where it refuses.
    """
    require_prefect_address()
    url = show_url(PREFECT_API_URL.value() or "")
    try:
        async with get_client() as client:
            await _wait(client, url, deadline_seconds)
            return await _publish(client, settings)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in _REFUSED:
            raise SettingError(
                f"The Prefect server at {url} refuses what is asked of it ({status}): set "
                "PREFECT_API_AUTH_STRING or PREFECT_API_KEY to what it wants."
            ) from None
        if error.response.is_server_error:
            raise TransientError(
                f"The Prefect server at {url} failed ({status}): its own log says why."
            ) from None
        raise TransientError(_no_prefect(url, f"status {status}")) from None
    except json.JSONDecodeError:
        raise TransientError(_no_prefect(url, "no JSON")) from None
    except (httpx.HTTPError, PrefectException) as error:
        raise TransientError(
            f"The Prefect server at {url} failed meanwhile ({type(error).__name__}): run this "
            "again, it does what is left."
        ) from None


def _no_prefect(url: str, said: str) -> str:
    return (
        f"What answers at {url} ({said}) is no Prefect 3 server: set PREFECT_API_URL to the "
        "address of one, with /api at its end."
    )


async def _publish(client: PrefectClient, settings: Settings) -> list[str]:
    changes = await create_pools(client)
    database_url = settings.database_url.get_secret_value()
    if settings.database_block and database_url:
        changes += await save_database_block(settings.database_block, database_url)
    changes += await create_variables(client)
    changes += await apply_deployments(client, read_declared())
    changes += await apply_automations(client)
    return changes


async def _wait(client: PrefectClient, url: str, seconds: float) -> None:
    end_time = monotonic() + seconds
    while (problem := await client.api_healthcheck()) is not None:
        if monotonic() >= end_time:
            raise TransientError(
                f"The Prefect server at {url} does not answer ({type(problem).__name__}): start "
                "it, or set PREFECT_API_URL to where it is."
            )
        await asyncio.sleep(0.2)


def main() -> None:
    """Publish, and say what was changed; exits with a sentence when it cannot."""
    try:
        changes = asyncio.run(publish(read_settings(), deadline_seconds=DEADLINE_SECONDS))
    except SluicewayError as error:
        sys.exit(str(error))
    sys.stdout.write("".join(f"{each}\n" for each in changes or ["nothing to change"]))


if __name__ == "__main__":
    main()
