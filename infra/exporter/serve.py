"""The exporter's HTTP side: /metrics, /healthz, and a page that says where they are."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from infra.exporter.scraper import SHARE_SECONDS, Scraper, make_pool
from infra.settings import Settings
from schemas.errors import SettingError

_SHUTDOWN_SECONDS = 2.0
_PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Sluiceway exporter</title>
<h1>Sluiceway exporter</h1>
<p><a href="/metrics">/metrics</a> is for Prometheus; <a href="/healthz">/healthz</a> answers while
this process lives, with PostgreSQL or without.</p></html>
"""


class _Answer(Collector):
    """What one scrape found, in the form that prometheus_client writes down."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def make_app(scraper: Scraper) -> web.Application:
    """Return the application with its routes; it listens nowhere yet."""
    process = ProcessCollector(registry=None)

    async def answer_metrics(request: web.Request) -> web.Response:
        metrics = [*await scraper.scrape(), *process.collect()]
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = web.Response(
            body=encode(_Answer(metrics)),
            headers={"Content-Type": content_type},
            zlib_executor_size=1 << 17,
        )
        response.enable_compression()
        return response

    async def answer_health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def answer_page(_request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/metrics", answer_metrics)
    app.router.add_get("/healthz", answer_health)
    app.router.add_get("/", answer_page)
    return app


@asynccontextmanager
async def serve_metrics(
    settings: Settings,
    *,
    share_seconds: float = SHARE_SECONDS,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve while the block runs, and yield the address; PostgreSQL may be away, and come.

    tls: with a certificate to show; None: by HTTP.
    Raises SettingError where no database is named, or the port is not free. Port 0 takes a free
    one.
    """
    url = settings.monitor_database_url.get_secret_value()
    if not url:
        raise SettingError(
            "No database is named: set SLUICEWAY_MONITOR_DATABASE_URL to "
            "postgresql://sluiceway_monitor:password@host:port/database."
        )
    host, port = settings.exporter_host, settings.exporter_port
    async with make_pool(url) as pool:
        scraper = Scraper(pool, share_seconds=share_seconds)
        runner = web.AppRunner(
            make_app(scraper), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port, ssl_context=tls).start()
            except OSError as error:
                raise SettingError(
                    f"The exporter cannot listen on {host} port {port} ({error.strerror}): set "
                    "SLUICEWAY_EXPORTER_PORT to a free one, or SLUICEWAY_EXPORTER_HOST to an "
                    "address of this machine."
                ) from error
            shown = f"[{host}]" if ":" in host else host
            yield f"{'https' if tls else 'http'}://{shown}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            await scraper.end()
