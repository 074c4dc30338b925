"""Serves metrics for Prometheus: `python -m infra.exporter`."""

import argparse
import asyncio
import signal
import sys

from infra.exporter.serve import serve_metrics
from infra.logs import configure_logging
from infra.settings import Settings, read_settings
from infra.tls.options import Shown, add_options, read_options
from schemas.errors import SluicewayError


async def _serve_until_told(settings: Settings, shown: Shown | None) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with serve_metrics(settings, tls=shown.context if shown else None) as address:
        sys.stdout.write(f"Metrics are at {address}/metrics\n")
        sys.stdout.flush()
        await told.wait()


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; exits with a sentence where a setting does not do."""
    parser = argparse.ArgumentParser(prog="python -m infra.exporter", description=__doc__)
    add_options(parser)
    given = parser.parse_args()
    try:
        shown = read_options(given)
        settings = read_settings()
        configure_logging(
            "exporter", folder=settings.log_folder, level=settings.log_level, settings=settings
        )
        asyncio.run(_serve_until_told(settings, shown))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
