"""Whether the dashboard answers."""

import aiohttp

from infra.health.finding import Finding, bad, first_line, good
from infra.http import open_session

_OK = 200
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing listens here
"""Where to ask a dashboard that listens on every address."""


async def check_dashboard(host: str, port: int) -> Finding:
    """Return whether its /healthz answers 200."""
    asked = _ANY.get(host, host)
    address = f"http://{f'[{asked}]' if ':' in asked else asked}:{port}/healthz"
    try:
        async with open_session() as session:
            status = await _ask(session, address)
    except (aiohttp.ClientError, OSError) as error:
        return bad(f"The dashboard does not answer at {address}: {first_line(error)}.")
    if status != _OK:
        return bad(f"The dashboard answers {status} at {address}.")
    return good("The dashboard answers.")


async def _ask(session: aiohttp.ClientSession, address: str) -> int:
    try:
        async with session.get(address) as response:
            return response.status
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if isinstance(error, aiohttp.ClientConnectorError):
            raise  # nobody listens
        # Whoever hangs up on HTTP may speak HTTPS. Nothing is told to it, so that its certificate
        # need not be believed; whether certificates last is another check's question.
        secured = address.replace("http://", "https://", 1)
        async with session.get(secured, ssl=False) as response:
            return response.status
