"""The commands of the local stack, for one checkout: up, down and demo."""

import asyncio
import importlib
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console

from deployments.supervision import (
    INTERRUPTED,
    READY,
    Supervision,
    adopt,
    run_interruptibly,
)
from infra.local.binaries import find_binaries, find_secured_binaries
from infra.local.folder import StateFolder
from infra.local.orphans import end_orphans
from infra.local.ports import LOOPBACK
from infra.local.process import wait_until

if TYPE_CHECKING:
    from infra.local.stack import Stack

DOWN_DEADLINE_SECONDS = 90.0
WATCH_SECONDS = 1.0


class LocalStack:
    """The commands, for one checkout."""

    def __init__(self, checkout: Path, *, is_secured: bool = False) -> None:
        """Nothing is started yet. is_secured: what it starts speaks TLS."""
        self._console = Console()
        self._folder = StateFolder(checkout / ".sluiceway", is_secured=is_secured)
        self._checkout = checkout
        self._supervision = Supervision(self._folder)

    def say(self, line: str) -> None:
        """Print a line as it is, whatever brackets it holds."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def up(self) -> int:
        """Return 0 when a stack that was up is stopped."""
        if not self._supervision.claim("up"):
            raise self._supervision.describe()
        return run_interruptibly(self._stay_up)

    def demo(self) -> int:
        """Return 0 when the pipeline completed and no figure fell short."""
        if self._supervision.claim("demo"):
            return run_interruptibly(self._demonstrate_alone)
        found = self._supervision.find()
        if found is None or found.mode != "up" or found.state != READY:
            raise self._supervision.describe()
        if self._folder.is_secured and not found.is_secured:
            raise self._supervision.describe()
        self._folder = replace(self._folder, is_secured=found.is_secured)
        self.say(f"Using the stack that is up (process {found.process.pid}).")
        adopt({k: v for k, v in found.environment.items() if k.startswith(("PREFECT_", "DO_NOT"))})
        return run_interruptibly(lambda: self._demonstrate_beside(found.environment))

    def down(self) -> int:
        """Return 0 when no process of this checkout's stack is left."""
        self._folder.make()
        found = self._supervision.find()
        if found is not None:
            self.say(f"Stopping the stack (make {found.command}, process {found.process.pid}) …")
            found.process.terminate()
            if not wait_until(lambda: self._supervision.find() is None, DOWN_DEADLINE_SECONDS):
                found.process.kill()
                wait_until(lambda: self._supervision.find() is None, DOWN_DEADLINE_SECONDS)
        if not self._supervision.claim("down"):
            raise self._supervision.describe()
        try:
            orphans = end_orphans(self._folder.run, self._folder.mark)
        finally:
            self._supervision.release()
        if orphans:
            self.say(f"Ended {orphans} process(es) that a killed stack had left running.")
        self.say("Nothing is running." if found is None else "Stopped.")
        return 0

    async def _stay_up(self) -> int:
        stack = self._make_stack()
        is_up = False
        try:
            environment = await self._start(stack)
            is_up = True
            dashboard = await self._start_dashboard(stack, environment)
            self._explain(stack, environment, dashboard, self._start_watchers(stack, environment))
            while True:
                stack.look_after()
                await asyncio.sleep(WATCH_SECONDS)
        except asyncio.CancelledError:
            return 0 if is_up else self._regret()
        finally:
            self._stop(stack)

    async def _demonstrate_alone(self) -> int:
        stack = self._make_stack()
        try:
            adopt(stack.client_environment)
            # Importing it takes a second, which passes while other processes start.
            loading = asyncio.create_task(asyncio.to_thread(_load_prefect_client))
            environment = await self._start(stack)
            await loading
            return await self._demonstrate(environment, stack)
        except asyncio.CancelledError:
            return self._regret()
        finally:
            self._stop(stack)

    async def _demonstrate_beside(self, environment: dict[str, str]) -> int:
        try:
            return await self._demonstrate(environment, stack=None)
        except asyncio.CancelledError:
            self.say("No longer following the run; it goes on in the stack that is up.")
            return INTERRUPTED

    async def _demonstrate(self, environment: dict[str, str], stack: "Stack | None") -> int:
        from deployments.demonstration import Demonstration  # noqa: PLC0415 - it imports Prefect

        flow_run_id, shortfalls = await Demonstration(
            self._console,
            environment,
            stack.look_after if stack else _accept,
            is_secured=self._folder.is_secured,
        ).run()
        self._point_at(environment, flow_run_id, stack)
        for line in shortfalls:
            self.say(f"Fell short: {line}")
        return 1 if shortfalls else 0

    def _point_at(
        self, environment: dict[str, str], flow_run_id: UUID, stack: "Stack | None"
    ) -> None:
        folder = os.path.relpath(self._folder.root)
        ui = environment["SLUICEWAY_PREFECT_UI_URL"]
        up = "make up ARGS=--tls" if self._folder.is_secured else "make up"
        after = "" if stack is None else f" (after `{up}`, which brings this stack back)"
        self.say(f"\nWhere to look{after}:")
        self.say(f"  the run in Prefect  {ui}/runs/flow-run/{flow_run_id}")
        self.say(f"  the dashboard       {environment['SLUICEWAY_DASHBOARD_URL']}")
        self.say(f'  the warehouse       . {folder}/env; {self._psql} "$SLUICEWAY_DATABASE_URL"')
        self.say(f"  the logs            {folder}/logs/")

    @property
    def _psql(self) -> str:
        found = find_secured_binaries() if self._folder.is_secured else find_binaries()
        program = str(found.program("psql"))
        near = os.path.relpath(program)
        return shlex.quote(program if near.startswith(os.pardir) else near)

    async def _start(self, stack: "Stack") -> dict[str, str]:
        if end_orphans(self._folder.run, self._folder.mark):
            self.say("Ended what an earlier stack had left running.")
        shutil.rmtree(self._folder.temporary, ignore_errors=True)
        self._folder.make()
        from deployments.startup import Startup  # noqa: PLC0415 - for the same reason

        environment = await Startup(stack, self.say).run()
        self._supervision.announce(READY, environment)
        return environment

    def _stop(self, stack: "Stack") -> None:
        stack.stop()
        self._supervision.release()
        self.say("Stopped.")

    def _regret(self) -> int:
        self.say("Interrupted before it was done.")
        return INTERRUPTED

    def _make_stack(self) -> "Stack":
        # `down` needs none of what this imports, and is the quicker for it.
        from infra.local.stack import Stack  # noqa: PLC0415

        try:
            return Stack(self._folder, self._checkout)
        except BaseException:
            self._supervision.release()
            raise

    async def _start_dashboard(self, stack: "Stack", environment: dict[str, str]) -> str:
        from deployments.startup import start_dashboard  # noqa: PLC0415 - for the same reason

        return await start_dashboard(stack, environment)

    def _start_watchers(self, stack: "Stack", environment: dict[str, str]) -> str:
        from deployments.startup import start_watchers  # noqa: PLC0415 - for the same reason

        return start_watchers(stack, environment)

    def _explain(
        self, stack: "Stack", environment: dict[str, str], dashboard: str, metrics: str
    ) -> None:
        folder = os.path.relpath(self._folder.root)
        over, said, broker = "", "", "the embedded broker"
        if stack.certificates:
            over = f"; its CA is {os.path.relpath(stack.certificates.ca_file)}"
            said, broker = " (TLS alone)", "Apache Kafka, SASL_SSL alone"
        self.say(
            f"""
The stack is up{over}.
  dashboard    {dashboard}
  Prefect      {environment["SLUICEWAY_PREFECT_UI_URL"]}
  PostgreSQL   {LOOPBACK}:{stack.postgres.port}, database sluiceway{said}
  Kafka        {stack.broker.bootstrap_servers} ({broker})
  sample API   {environment["SLUICEWAY_API_ENDPOINTS"].strip('[]"')}
  metrics      {metrics}
  logs         logs/ (what runs log), {folder}/logs/ (each process)

From another shell:
  . {folder}/env
  {self._psql} "$SLUICEWAY_DATABASE_URL"
  .venv/bin/python -m prefect deployment run daily_etl_pipeline/daily

Ctrl-C here or `make down` there stops it."""
        )


def _load_prefect_client() -> None:
    importlib.import_module("prefect.client.orchestration")


def _accept() -> None:
    return
