"""The dashboard and the exporter with a certificate: HTTPS, and no HTTP beside it."""

import argparse
import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from dash_app.__main__ import configure_server
from infra.exporter.serve import serve_metrics
from infra.health.dashboard import check_dashboard
from infra.health.finding import Status
from infra.local.certificates import Certificates, issue_certificates
from infra.settings import Settings
from infra.tls.options import Shown, add_options, read_options
from schemas.errors import SettingError
from tests.conftest import Database


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return issue_certificates(tmp_path / "tls")


def options(*given: str) -> Shown | None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_options(parser.parse_args(given))


def shown(certificates: Certificates, service: str) -> Shown:
    pair = certificates.pair(service)
    found = options("--certificate", str(pair.certificate_file), "--key", str(pair.key_file))
    assert found is not None
    return found


async def ask(url: str, certificates: Certificates) -> int:
    trusted = ssl.create_default_context(cafile=certificates.ca_file)
    connector = aiohttp.TCPConnector(ssl=trusted)
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
        return response.status


@asynccontextmanager
async def serving(status: int, certificates: Certificates) -> AsyncIterator[int]:
    """Serve as the dashboard does, and yield the port; /healthz answers with that status."""

    async def answer(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("", status_code=status)

    application = Starlette(routes=[Route("/healthz", answer)])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(configure_server(application, shown(certificates, "dashboard")))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@pytest.mark.parametrize(("status", "health"), [(200, Status.GOOD), (500, Status.BAD)])
async def test_the_dashboard_speaks_https_and_its_health_is_found(
    certificates: Certificates, status: int, health: Status
) -> None:
    async with serving(status, certificates) as port:
        assert await ask(f"https://127.0.0.1:{port}/healthz", certificates) == status
        with pytest.raises(aiohttp.ClientError):
            await ask(f"http://127.0.0.1:{port}/healthz", certificates)
        finding = await check_dashboard("127.0.0.1", port)
    assert finding.status is health


async def test_the_exporter_speaks_https(database: Database, certificates: Certificates) -> None:
    settings = Settings(monitor_database_url=database.monitor_url, exporter_port=0)
    tls = shown(certificates, "exporter").context
    async with serve_metrics(settings, tls=tls) as address:
        assert address.startswith("https://127.0.0.1:")
        assert await ask(f"{address}/metrics", certificates) == 200
        with pytest.raises(aiohttp.ClientError):
            await ask(f"{address.replace('https', 'http')}/metrics", certificates)


def test_half_a_pair_or_two_halves_are_refused_with_a_sentence(certificates: Certificates) -> None:
    kafka, prefect = certificates.pair("kafka"), certificates.pair("prefect")
    assert options() is None
    with pytest.raises(SettingError, match="needs its key: give both"):
        options("--certificate", str(kafka.certificate_file))
    with pytest.raises(SettingError, match="name two files in PEM that belong together"):
        options("--certificate", str(kafka.certificate_file), "--key", str(prefect.key_file))
    with pytest.raises(SettingError, match="cannot be used"):
        options("--certificate", str(kafka.certificate_file), "--key", "no-such.key")
