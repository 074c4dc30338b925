"""Whether the Prefect server that this process is told to use is there at all."""

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from schemas.errors import SettingError, TransientError


def require_prefect_address() -> None:
    """Raise SettingError where no server is named; Prefect would start one that nobody knows."""
    if not PREFECT_API_URL.value():
        raise SettingError(
            "No Prefect server is named: set PREFECT_API_URL to its address, as "
            "http://prefect.example:4200/api."
        )


async def require_prefect() -> None:
    """Raise TransientError when PREFECT_API_URL names a server that does not answer.

    Without that setting Prefect starts a server of its own for the run.
    """
    url = PREFECT_API_URL.value()
    if not url:
        return
    async with get_client() as client:
        problem = await client.api_healthcheck()
    if problem is not None:
        raise TransientError(
            f"The Prefect server at {url} does not answer ({problem}): start it, as with "
            "`make up`, or unset PREFECT_API_URL to run without it."
        )
