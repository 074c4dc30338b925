"""A Prefect server on our PostgreSQL: its command, its environment, its health."""

import asyncio
import ssl
import sys
from time import monotonic

import aiohttp

from infra.local.certificates import Certificates
from infra.local.folder import StateFolder, make_fernet_key
from infra.local.ports import LOOPBACK
from infra.local.process import Child
from schemas.errors import TerminalError

_DATABASE_TLS = "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS"
HEALTH_DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.2


def api_url(port: int, *, is_secured: bool = False) -> str:
    """Return the address that clients, workers and flow runs use."""
    return f"{'https' if is_secured else 'http'}://{LOOPBACK}:{port}/api"


def client_environment(
    folder: StateFolder, port: int, certificates: Certificates | None = None
) -> dict[str, str]:
    """Return what any of Prefect's own programs needs to use this server and no other."""
    is_secured = certificates is not None
    trust = {"PREFECT_API_SSL_CERT_FILE": str(certificates.ca_file)} if certificates else {}
    return trust | {
        "PREFECT_API_URL": api_url(port, is_secured=is_secured),
        "PREFECT_HOME": str(folder.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_PROMPT": "false",
        # A person is waiting; the default of ten seconds is made for a fleet.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def server_environment(
    folder: StateFolder, port: int, database_url: str, certificates: Certificates | None = None
) -> dict[str, str]:
    """Return what the server needs beside that; the database must be Prefect's alone."""
    environment = client_environment(folder, port, certificates)
    if certificates is not None:
        environment |= {
            f"{_DATABASE_TLS}_ENABLED": "true",
            f"{_DATABASE_TLS}_CA_FILE": str(certificates.ca_file),
            # As `prefect server start` tells its own uvicorn.
            "PREFECT__SERVER_FINAL": "1",
        }
    return environment | {
        # SQLAlchemy's asyncpg takes no sslmode: the variables above stand for it.
        "PREFECT_API_DATABASE_CONNECTION_URL": database_url.partition("?")[0].replace(
            "postgresql://", "postgresql+asyncpg://", 1
        ),
        # Leases in memory would be lost with a restart, and the runs that hold them crash.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Without one, blocks are encrypted with a key kept in the same database.
        "PREFECT_SERVER_ENCRYPTION_KEY": folder.key("prefect-encryption-key", make_fernet_key),
    }


def server_command(port: int, certificates: Certificates | None = None) -> list[str]:
    """Return the command that serves the API, the UI and Prefect's own services."""
    if certificates is not None:
        # `prefect server start` knows no certificate; the uvicorn below it does.
        pair = certificates.pair("prefect")
        return [
            *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
            *("--host", LOOPBACK, "--port", str(port), "--timeout-keep-alive", "5"),
            *("--ssl-certfile", str(pair.certificate_file)),
            *("--ssl-keyfile", str(pair.key_file), "--log-level", "warning"),
        ]
    return [
        *(sys.executable, "-m", "prefect", "--no-prompt", "server", "start"),
        *("--host", LOOPBACK, "--port", str(port)),
    ]


async def wait_until_healthy(
    port: int, server: Child, certificates: Certificates | None = None
) -> None:
    """Return once the server answers; raises TerminalError where it ends or takes too long."""
    url = f"{api_url(port, is_secured=certificates is not None)}/health"
    await wait_for_answer(url, server, HEALTH_DEADLINE_SECONDS, certificates)


async def wait_for_answer(
    url: str,
    process: Child,
    deadline_seconds: float,
    certificates: Certificates | None = None,
) -> None:
    """Return once the address answers 200; raises TerminalError where the process ends first."""
    end_time = monotonic() + deadline_seconds
    timeout = aiohttp.ClientTimeout(total=5)
    trusted = ssl.create_default_context(cafile=certificates.ca_file if certificates else None)
    connector = aiohttp.TCPConnector(ssl=trusted)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        while True:
            try:
                async with session.get(url) as response:
                    if response.ok:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass  # not listening yet; the deadline below decides
            if not process.is_running:
                raise process.explain_end()
            if monotonic() > end_time:
                raise TerminalError(
                    f"{process.name} did not answer at {url} within {deadline_seconds:.0f} s; "
                    f"see {process.launch.log}."
                )
            await asyncio.sleep(POLL_SECONDS)
