"""Serves the dashboard: `python -m dash_app`."""

import argparse
import sys

import uvicorn

from dash_app.application import build
from infra.logs import configure_logging
from infra.settings import read_settings
from schemas.errors import SluicewayError


def main() -> None:
    """Serve until Ctrl-C; exits with a sentence where a setting does not do."""
    parser = argparse.ArgumentParser(prog="python -m dash_app", description=__doc__)
    parser.parse_args()
    try:
        settings = read_settings()
        configure_logging("dashboard", folder=settings.log_folder, level=settings.log_level)
        application = build(settings)
    except SluicewayError as error:
        sys.exit(str(error))
    uvicorn.run(
        application,
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=1 << 20,
    )


if __name__ == "__main__":
    main()
