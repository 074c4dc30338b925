"""The whole of what watches, started once: PostgreSQL, exporter, Prometheus, Alertmanager, mail."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.process import wait_until
from infra.settings import Settings
from tests.conftest import Database, Server
from tests.mail_server import MailServer, mail_server
from tests.monitoring.history import add_turn
from tests.monitoring.servers import (
    PROGRAMS,
    WAIT_SECONDS,
    Prometheus,
    find_program,
    run_alertmanager,
    run_exporter,
    run_prometheus,
)

RECIPIENT = "operations@mail.test"


@dataclass(frozen=True)
class Stage:
    """All that runs, and what happened on it before the first test."""

    database: Database
    prometheus: Prometheus
    mail: MailServer
    settings: Settings
    folder: Path
    said: str
    """The error of the run that failed last."""


@pytest.fixture(scope="session")
def programs() -> dict[str, str]:
    """Where each program of Debian's is."""
    return {name: find_program(name) for name in PROGRAMS}


@pytest.fixture(scope="session")
def stage(
    programs: dict[str, str], embedded_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Two turns of history, the second while Prometheus was looking."""
    folder = tmp_path_factory.mktemp("monitoring")
    database = asyncio.run(embedded_server.create())
    add_turn(database, folder, 1)
    with ExitStack() as running:
        mail = running.enter_context(
            mail_server(folder, user="sluiceway", password="only for tests")
        )
        settings = mail_settings(mail)
        exporter = running.enter_context(run_exporter(folder, database.monitor_url))
        alertmanager = running.enter_context(run_alertmanager(folder, settings))
        prometheus = running.enter_context(
            run_prometheus(folder, exporter=exporter, alertmanager=alertmanager)
        )
        assert wait_until(lambda: bool(prometheus.query("sluiceway_runs_total")), WAIT_SECONDS)
        said = add_turn(database, folder, 2)
        rose = 'min(increase(sluiceway_runs_total{status="FAILED", pipeline=~"daily.*"}[5m])) > 0'
        assert wait_until(lambda: bool(prometheus.query(rose)), WAIT_SECONDS)
        yield Stage(database, prometheus, mail, settings, folder, said)
    asyncio.run(embedded_server.drop(database))


def mail_settings(mail: MailServer) -> Settings:
    """Return the settings with which one finds the mail server."""
    return Settings(
        smtp_host=mail.host,
        smtp_port=mail.port,
        smtp_user=mail.user,
        smtp_password=mail.password,  # type: ignore[arg-type]
        smtp_ca_file=mail.ca_file,
        mail_from="sluiceway@mail.test",
        mail_to=(RECIPIENT,),
    )
