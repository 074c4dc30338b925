"""Where runs are killed: a stack with a janitor, the mail process, a mail server and a slow API.

Each run has two files to load and an API to ask that answers only when it is let: so it is caught
in the middle, with the files committed, and the API's rows still to come.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient

from deployments.bootstrap import bootstrap
from infra.local.folder import StateFolder
from infra.local.ports import LOOPBACK
from infra.local.prefect_server import (
    api_url,
    server_command,
    server_environment,
    wait_until_healthy,
)
from infra.local.process import Child
from infra.local.stack import DATABASE, PREFECT, Stack
from infra.postgres.apply import LOADER
from tests.chaos.dead_runs_input import Partner, write_files
from tests.chaos.dead_runs_view import View
from tests.mail_server import MailServer, Received

CHECKOUT = Path(__file__).absolute().parents[2]
PIPELINE = "daily_etl_pipeline"
DEPLOYMENT = f"{PIPELINE}/daily"
JANITOR_SECONDS, MAIL_SECONDS = 30, 10
LOOK_SECONDS = 0.2
START_SECONDS = 180.0


class DrillError(Exception):
    """Something did not happen in time, or is not as it should be; the message says what."""


@dataclass(frozen=True)
class Caught:
    """A run that waits for the API, with its files committed."""

    case: int
    execution_id: int
    flow_run_id: UUID
    process_id: int


class Stage:
    """All of the processes, each to be killed and started again, and a view of what they wrote."""

    def __init__(self, folder: Path, mails: MailServer) -> None:
        state = StateFolder(folder / "stack")
        state.make()
        self.stack = Stack(state, CHECKOUT)
        self.view = View("")
        self.mails = mails
        self.partner = Partner()
        self.processes: dict[str, Child] = {}
        self._raw = folder / "raw"
        self._raw.mkdir()
        self._folder = folder

    @property
    def environment(self) -> dict[str, str]:
        stack = self.stack
        url = stack.postgres.url(DATABASE, user=LOADER, password=stack.folder.secret(LOADER))
        endpoint = {"url": f"http://{LOOPBACK}:{self.partner.port}/users", "timeout_seconds": 900}
        return {
            **stack.client_environment,
            **stack.personal_keys,
            "SLUICEWAY_DATABASE_URL": url,
            "SLUICEWAY_RAW_FOLDER": str(self._raw),
            "SLUICEWAY_API_ENDPOINTS": json.dumps([endpoint]),
            "SLUICEWAY_LOG_FOLDER": str(self._folder / "logs"),
            "SLUICEWAY_SMTP_HOST": LOOPBACK,
            "SLUICEWAY_SMTP_PORT": str(self.mails.port),
            "SLUICEWAY_SMTP_CA_FILE": str(self.mails.ca_file),
            "SLUICEWAY_SMTP_USER": self.mails.user,
            "SLUICEWAY_SMTP_PASSWORD": self.mails.password,
            "SLUICEWAY_MAIL_TO": '["ops@example.com"]',
            # The least: the next case's mail is not to wait for a quarter of an hour.
            "SLUICEWAY_MAIL_MINUTES": "1",
        }

    async def start(self) -> None:
        """Leave everything running, and nothing loaded yet."""
        stack = self.stack
        await stack.start_postgres()
        self.view = View(stack.owner_url)
        await bootstrap(stack.owner_url, loader_password=stack.folder.secret(LOADER))
        await self.start_server()
        await self._publish()
        for name in ("worker", "janitor", "mail"):
            self.start_process(name)

    def stop(self) -> None:
        self.stack.is_complete = True
        self.stack.stop()

    def client(self) -> PrefectClient:
        return PrefectClient(api_url(self.stack.prefect_port))

    async def start_server(self) -> None:
        stack = self.stack
        url = stack.postgres.url(PREFECT, user=PREFECT, password=stack.folder.secret(PREFECT))
        server = stack.start(
            "prefect-server",
            server_command(stack.prefect_port),
            server_environment(stack.folder, stack.prefect_port, url),
        )
        self.processes["server"] = server
        await wait_until_healthy(stack.prefect_port, server)

    def start_process(self, name: str) -> None:
        command = {
            "worker": ["deployments.worker", "batch", "--name", "drill"],
            "janitor": ["flows.mark_dead_runs", "--every", str(JANITOR_SECONDS)],
            "mail": ["flows.send_mail", "--every", str(MAIL_SECONDS)],
        }[name]
        started = self.stack.start(name, [sys.executable, "-m", *command], self.environment)
        self.processes[name] = started

    def kill(self, name: str) -> None:
        """End one of the processes by kill -9; what it had started goes on."""
        self.processes.pop(name).send_signal(signal.SIGKILL)

    async def _publish(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deployments.publication"),
            cwd=CHECKOUT,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise DrillError(f"The deployments were not made: {said.decode()[-2000:]}")

    def look_after(self) -> None:
        """Raise where a process that nobody killed has ended."""
        for child in self.processes.values():
            if not child.is_running:
                raise child.explain_end()

    async def catch_run(self, case: int) -> Caught:
        """Return a run that has committed its files, and waits for the API."""
        write_files(self._raw, case)
        self.partner.case = case
        self.partner.is_open.clear()
        self.partner.asked.clear()
        flow_run_id = await self.begin_run()

        async def is_caught() -> bool:
            return self.partner.asked.is_set() and await self.view.fetchval(
                """
                SELECT count(DISTINCT s.id) = 2 AND count(DISTINCT l.id) >= 2
                FROM metadata.pipeline_executions AS e
                JOIN metadata.source_files AS s ON s.execution_id = e.id AND s.status = 'LOADED'
                JOIN metadata.pipeline_logs AS l ON l.execution_id = e.id
                WHERE e.flow_run_id = $1
                """,
                flow_run_id,
            )

        await self.wait_for(is_caught, START_SECONDS, "The run did not get into its middle")
        row = await self.view.fetchrow(
            "SELECT id, process_id FROM metadata.pipeline_executions WHERE flow_run_id = $1",
            flow_run_id,
        )
        return Caught(case, row["id"], flow_run_id, row["process_id"])

    async def begin_run(self) -> UUID:
        """Return the run that Prefect was asked for."""
        async with self.client() as client:
            deployment = await client.read_deployment_by_name(DEPLOYMENT)
            return (await client.create_flow_run_from_deployment(deployment.id)).id

    def failure_mails(self, since: int, reason: str) -> list[Received]:
        """Return the mails after the first `since` that say that a run failed, and why."""
        return [
            each
            for each in self.mails.received[since:]
            if "failed" in each.message["Subject"] and reason in " ".join(each.body().split())
        ]

    async def prefect_state(self, flow_run_id: UUID) -> str | None:
        async with self.client() as client:
            return (await client.read_flow_run(flow_run_id)).state_name

    async def wait_for(
        self, condition: Callable[[], Awaitable[bool]], deadline_seconds: float, complaint: str
    ) -> float:
        """Return after how many seconds it was so; raises DrillError where it never is."""
        started = time.monotonic()
        while not await condition():
            if time.monotonic() - started > deadline_seconds:
                raise DrillError(f"{complaint} within {deadline_seconds:g} s.")
            self.look_after()
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - started


def kill_process(process_id: int) -> None:
    """End a process by kill -9."""
    psutil.Process(process_id).kill()
