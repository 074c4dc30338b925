"""The commands of the local stack, for one checkout: up, down and demo."""

import asyncio
import importlib
import os
import shlex
import shutil
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
from infra.local.binaries import find_binaries
from infra.local.folder import StateFolder
from infra.local.orphans import end_orphans
from infra.local.ports import LOOPBACK
from infra.local.process import wait_until
from infra.settings import read_settings
from schemas.errors import SluicewayError, TerminalError

if TYPE_CHECKING:
    from infra.local.stack import Stack

DOWN_DEADLINE_SECONDS = 90.0
WATCH_SECONDS = 1.0


class LocalStack:
    """The commands, for one checkout."""

    def __init__(self, checkout: Path) -> None:
        """Nothing is started yet."""
        self._console = Console()
        self._folder = StateFolder(checkout / ".sluiceway")
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
        self.say(f"Using the stack that is up (process {found.process.pid}).")
        adopt({k: v for k, v in found.environment.items() if k.startswith(("PREFECT_", "DO_NOT"))})
        return run_interruptibly(lambda: self._demonstrate_beside(found.environment))

    def down(self) -> int:
        """Return 0 when no process of this checkout's stack is left."""
        self._folder.make()
        found = self._supervision.find()
        if found is not None:
            self.say(f"Stopping the stack (make {found.mode}, process {found.process.pid}) …")
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
        from deployments.demo import run_deployment  # noqa: PLC0415 - it imports Prefect
        from deployments.summary import find_shortfalls, print_report, read_report  # noqa: PLC0415

        ended = await run_deployment(self.say, stack.look_after if stack else _accept)
        shortfalls = [] if ended.completed else [f"the run ended as {ended.state}: {ended.message}"]
        try:
            report = await read_report(environment["SLUICEWAY_DATABASE_URL"], ended.flow_run_id)
        except TerminalError as error:
            shortfalls.append(str(error))
        else:
            print_report(self._console, report)
            shortfalls += find_shortfalls(report)
        if not shortfalls:
            shortfalls = await self._demonstrate_stream(environment, stack)
        self._point_at(environment, ended.flow_run_id, stack)
        for line in shortfalls:
            self.say(f"Fell short: {line}")
        return 1 if shortfalls else 0

    async def _demonstrate_stream(
        self, environment: dict[str, str], stack: "Stack | None"
    ) -> list[str]:
        from deployments.stream_demo import (  # noqa: PLC0415 - it imports Prefect
            find_stream_shortfalls,
            print_stream,
            run_stream,
        )

        settings = read_settings().model_copy(
            update={"kafka_bootstrap_servers": environment["SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"]}
        )
        check = stack.look_after if stack else _accept
        try:
            report = await run_stream(
                self.say, check, environment["SLUICEWAY_DATABASE_URL"], settings
            )
        except SluicewayError as error:
            return [str(error)]
        print_stream(self._console, report)
        return find_stream_shortfalls(report)

    def _point_at(
        self, environment: dict[str, str], flow_run_id: UUID, stack: "Stack | None"
    ) -> None:
        folder = os.path.relpath(self._folder.root)
        ui = environment["SLUICEWAY_PREFECT_UI_URL"]
        after = "" if stack is None else " (after `make up`, which brings this stack back)"
        self.say(f"\nWhere to look{after}:")
        self.say(f"  the run in Prefect  {ui}/runs/flow-run/{flow_run_id}")
        dashboard = f"http://{LOOPBACK}:{environment['SLUICEWAY_DASHBOARD_PORT']}"
        self.say(f"  the dashboard       {dashboard}")
        self.say(f'  the warehouse       . {folder}/env; {self._psql} "$SLUICEWAY_DATABASE_URL"')
        self.say(f"  the logs            {folder}/logs/")

    @property
    def _psql(self) -> str:
        return shlex.quote(os.path.relpath(find_binaries().program("psql")))

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

        return Stack(self._folder, self._checkout)

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
        self.say(
            f"""
The stack is up.
  dashboard    {dashboard}
  Prefect      {environment["SLUICEWAY_PREFECT_UI_URL"]}
  PostgreSQL   127.0.0.1:{stack.postgres.port}, database sluiceway
  Kafka        {stack.broker.bootstrap_servers} (the embedded broker)
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
