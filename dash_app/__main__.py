"""Serves the dashboard: `python -m dash_app`."""

import argparse
import contextlib
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from dash_app.application import build
from infra.logs import configure_logging
from infra.settings import Settings, read_settings
from infra.tls.options import Shown, add_options, read_options
from schemas.errors import SettingError, SluicewayError

SHUTDOWN_SECONDS = 3
"""How long open requests and WebSockets may take to end after Ctrl-C."""


def main() -> None:
    """Serve until Ctrl-C; exits with a sentence where a setting does not do."""
    parser = argparse.ArgumentParser(prog="python -m dash_app", description=__doc__)
    add_options(parser)
    given = parser.parse_args()
    try:
        shown = read_options(given)
        settings = read_settings()
        configure_logging(
            "dashboard", folder=settings.log_folder, level=settings.log_level, settings=settings
        )
        application = build(settings)
        listening = listen(settings)
    except SluicewayError as error:
        sys.exit(str(error))
    host, port = listening.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"The dashboard is at {'https' if shown else 'http'}://{place}:{port}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(configure_server(application, shown)).run(sockets=[listening])


def listen(settings: Settings) -> socket.socket:
    """Return a socket on the dashboard's address; raises SettingError where that is not free."""
    host, port = settings.dashboard_host, settings.dashboard_port
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise SettingError(
            f"The dashboard cannot listen on {host} port {port} ({error.strerror}): set "
            "SLUICEWAY_DASHBOARD_PORT to a free one, or SLUICEWAY_DASHBOARD_HOST to an address of "
            "this machine."
        ) from error


def configure_server(application: ASGIApp, shown: Shown | None = None) -> uvicorn.Config:
    """Return how the dashboard is served: by HTTPS where it has a certificate to show."""
    return uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=1 << 20,
        # A proxy on this machine may say for whom it asks, and whether by https; nobody else.
        proxy_headers=True,
        forwarded_allow_ips=["127.0.0.1", "::1"],
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=shown.certificate_file if shown else None,
        ssl_keyfile=shown.key_file if shown else None,
    )


if __name__ == "__main__":
    main()
